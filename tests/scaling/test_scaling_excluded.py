from kleiber.runs import Excluded
from kleiber.scaling import Law, read_excluded


def test_a_law_with_runs_left_out_has_another_hash_and_reads_back(law, tmp_path):
    known = law.hash
    assert law.excluded == ()
    left = law.model_copy(update={"excluded": (Excluded(run="d2-w16-s1", reason="It diverged."),)})
    assert left.hash != known
    left.write(tmp_path / "law.json")
    assert Law.read(tmp_path / "law.json") == left


def test_a_law_written_before_there_was_the_key_keeps_its_hash(law, tmp_path):
    law.write(tmp_path / "law.json")
    path = tmp_path / "law.json"
    path.write_text(path.read_text().replace('  "excluded": [],\n', ""))
    assert '"excluded"' not in path.read_text()
    assert Law.read(path).hash == law.hash


def test_runs_that_diverged_are_read_with_their_reasons(make_record, tmp_path):
    for name, changes in {
        "d2-w16-s1": {
            "status": "failed",
            "result": None,
            "error": "the loss is not finite at step 3.",
            "is_diverged": True,
        },
        "d2-w16-s1-slower": {},
        "d2-w24-s1": {"status": "failed", "result": None, "error": "the disk is full."},
        "d2-w32-s1": {"status": "failed", "result": None, "error": None, "is_diverged": True},
    }.items():
        (tmp_path / name).mkdir()
        make_record(name, **changes).write(tmp_path / name / "record.json")
    assert read_excluded([tmp_path]) == (
        Excluded(
            run="d2-w16-s1",
            reason="the loss is not finite at step 3; trained again at half the rates as d2-w16-s1-slower.",
        ),
        Excluded(run="d2-w32-s1", reason="It diverged."),
    )
    (tmp_path / "rows.csv").write_text("params,tokens,loss\n1,1,1\n")
    assert read_excluded([tmp_path / "rows.csv"]) == ()
