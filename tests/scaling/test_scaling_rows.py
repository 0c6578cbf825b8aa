from __future__ import annotations

import pytest

from kleiber.errors import DataError, RunFolderError, UsageError
from kleiber.runs import Estimate, Excluded, ParamCount, Predicted
from kleiber.scaling import Columns, read_excluded, read_groups, read_points, read_rows


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.csv"

    def write(text: str):
        path.write_text(text)
        return path

    return write


def test_a_table_becomes_rows(table):
    path = table(
        "run,params,params_non_embedding,tokens,unique_tokens,loss,seed,eval_hash\na,1e6,9e5,2e9,1e9,3.5,4,e7\n"
    )
    (row,) = read_rows([path])
    assert (row.run, row.trunk, row.seed, row.eval_hash) == ("a", "a", 4, "e7")
    assert row.num_params == ParamCount(embedding=100_000, body=900_000, head=0)
    assert (row.num_tokens, row.unique_tokens, row.loss) == (2e9, 1e9, 3.5)


def test_rows_without_a_name_stand_for_themselves(table):
    rows = read_rows([table("params,tokens,loss\n1e6,1e9,3\n1e6,1e9,3\n")])
    assert rows[0].trunk != rows[1].trunk
    assert rows[0].run.endswith("rows.csv line 2")
    assert rows[0].num_params == ParamCount(embedding=0, body=1_000_000, head=0)


def test_lines_of_one_run_or_trunk_share_it(table):
    by_run = read_rows([table("run,params,tokens,loss\na,1e6,1e9,3\na,1e6,2e9,2.9\nb,1e6,1e9,3\n")])
    assert [row.trunk for row in by_run] == ["a", "a", "b"]
    by_trunk = read_rows([table("run,trunk,params,tokens,loss\na1,a,1e6,1e9,3\na2,a,1e6,2e9,2.9\n")])
    assert [row.trunk for row in by_trunk] == ["a", "a"]


def test_the_highest_losses_can_be_dropped(table):
    path = table("params,tokens,loss\n1,1,3\n2,1,9\n3,1,2\n4,1,8\n5,1,8\n")
    assert [row.num_params.total for row in read_rows([path], drop_highest=2)] == [1, 3, 5]
    for count in (5, -1):
        with pytest.raises(UsageError, match="drop_highest must be from 0 to 4"):
            read_rows([path], drop_highest=count)


def test_bad_cells_are_refused(table):
    with pytest.raises(DataError, match=r"line 2: loss must be a positive number\. Got 'nan'"):
        read_rows([table("params,tokens,loss\n1,1,nan\n")])
    with pytest.raises(DataError, match=r"line 2: body must be at most params \(10\)\. Got 11"):
        read_rows([table("params,params_non_embedding,tokens,loss\n10,11,1,1\n")])
    with pytest.raises(DataError, match=r"line 2: seed must be a whole number\. Got 'x'"):
        read_rows([table("params,tokens,loss,seed\n1,1,1,x\n")])


def test_columns_are_mapped(table):
    (row,) = read_rows([table("a,b,c\n1,2,3\n")], Columns(params="c", tokens="a", loss="b"))
    assert (row.num_params.total, row.num_tokens, row.loss) == (3, 1, 2)


def test_branches_and_whole_runs_count_and_trunks_do_not(tmp_path, write_run):
    ladder = tmp_path / "ladder"
    write_run(ladder / "d2-s0", cooldown_frac=0.0)
    write_run(ladder / "d2-s0-h1000", trunk="d2-s0", num_tokens=512_000, val_loss=4.0)
    write_run(ladder / "d2-s0-h2000", trunk="d2-s0", num_tokens=2_048_000, val_loss=3.8)
    write_run(ladder / "d3", num_tokens=512_000)
    write_run(ladder / "d4", status="interrupted", result=None)
    rows = read_rows([ladder])
    assert [(row.run, row.trunk) for row in rows] == [
        ("d2-s0-h1000", "d2-s0"),
        ("d2-s0-h2000", "d2-s0"),
        ("d3", "d3"),
    ]
    assert [(row.num_tokens, row.unique_tokens, row.loss) for row in rows[:2]] == [
        (512_000, 512_000, 4.0), (2_048_000, 2_000_000, 3.8),
    ]  # fmt: skip
    assert rows[0].eval_hash == "e1"


def test_a_run_named_twice_is_one_row(tmp_path, write_run):
    write_run(tmp_path / "ladder" / "a")
    assert len(read_rows([tmp_path / "ladder", tmp_path / "ladder" / "a"])) == 1


def test_trunks_of_two_ladders_do_not_mix(tmp_path, write_run):
    for ladder in ("one", "two"):
        write_run(tmp_path / ladder / "d2-h1", trunk="d2")
        write_run(tmp_path / ladder / "d2-h2", trunk="d2")
    rows = read_rows([tmp_path / "one", tmp_path / "two"])
    assert [row.trunk for row in rows] == ["one/d2", "one/d2", "two/d2", "two/d2"]


def test_trunks_are_told_apart_by_as_little_of_their_path_as_does_it(tmp_path, write_run):
    for study in ("one", "two"):
        write_run(tmp_path / study / "ladder" / "d2-h1", trunk="d2")
    rows = read_rows([tmp_path / "one", tmp_path / "two"])
    assert [row.trunk for row in rows] == ["one/ladder/d2", "two/ladder/d2"]


def test_a_run_with_a_forecast_stays_out_of_the_law(tmp_path, write_run):
    write_run(tmp_path / "ladder" / "d2-h1", trunk="d2")
    write_run(tmp_path / "target", predicted=Predicted(forecast_hash="f"))
    write_run(tmp_path / "timed", predicted=Predicted(total_time_s=3.0))
    said = []
    rows = read_rows([tmp_path], on_notice=said.append)
    assert [row.run for row in rows] == ["d2-h1", "timed"]
    assert said == ["1 of 3 runs started with a forecast and are left out of the law: target."]
    assert len(read_rows([tmp_path])) == 2
    read_rows([tmp_path / "ladder"], on_notice=said.append)
    assert len(said) == 1


def test_tables_and_folders_are_read_together(tmp_path, table, write_run):
    write_run(tmp_path / "ladder" / "a")
    assert len(read_rows([tmp_path / "ladder", table("params,tokens,loss\n1,1,1\n")])) == 2


def test_folders_without_a_finished_run_are_refused(tmp_path, write_run):
    write_run(tmp_path / "ladder" / "a", status="failed", result=None)
    with pytest.raises(DataError, match=r"No finished run with a cool-down in .*ladder"):
        read_rows([tmp_path / "ladder"])
    with pytest.raises(DataError, match="No finished run with a cool-down in no path"):
        read_rows([])
    with pytest.raises(RunFolderError, match="is not a run folder and holds none"):
        read_rows([tmp_path / "nowhere"])


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "rows.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(
        DataError, match=r"or to tables \(\.csv, \.tsv, \.jsonl, \.parquet\)\. Got .*rows\.xlsx"
    ):
        read_rows([path])


def test_points_keep_the_order_of_the_file(table):
    assert read_points(table("tokens,params,note\n2e9,1e6,x\n1B,3M,y\n")) == [(1e6, 2e9), (3e6, 1e9)]
    with pytest.raises(DataError, match="has no line below its first"):
        read_points(table("params,tokens\n"))
    with pytest.raises(DataError, match="no column for tokens"):
        read_points(table("params,loss\n1,2\n"))


GROUPED = """params,tokens,loss,group,extra
1e6,2e7,3.5,a,lr=1e-3;bs=32
2e6,2e7,3.2,b,lr=2e-3
4e6,2e7,nan,b,
"""


def test_a_condition_keeps_rows_before_their_numbers_are_read(table):
    (row,) = read_rows([table(GROUPED)], where='group == "b" and loss > 0')
    assert row.num_params.total == 2_000_000
    with pytest.raises(DataError, match="line 4: loss must be a positive number"):
        read_rows([table(GROUPED)])
    with pytest.raises(DataError, match=r"--where keeps none of 3 rows\. Got 'loss > 4'"):
        read_rows([table(GROUPED)], where="loss > 4")


def test_what_extra_holds_has_names(table):
    (row,) = read_rows([table(GROUPED)], where="lr == 0.001 and bs < 64")
    assert row.loss == 3.5
    (row,) = read_rows([table(GROUPED)], Columns(trunk="lr"), where="lr == 1e-3")
    assert row.trunk == "1e-3"


def test_groups_come_in_the_order_of_the_table(table):
    groups = read_groups([table(GROUPED)], "group", where="loss > 0")
    assert {name: [row.loss for row in rows] for name, rows in groups.items()} == {"a": [3.5], "b": [3.2]}
    assert list(read_groups([table(GROUPED)], "bs", where="loss > 0")) == ["32", "(none)"]
    with pytest.raises(
        UsageError, match=r"--by: .*rows\.csv line 2 has no column 'grup'\. Did you mean 'group'"
    ):
        read_groups([table(GROUPED)], "grup")


def test_runs_have_the_names_of_their_recipes(tmp_path, write_run):
    for name, loss in (("a", 2.75), ("b", 2.5)):
        write_run(tmp_path / "ladder" / name, val_loss=loss)
    (row,) = read_rows(
        [tmp_path / "ladder"], where='loss < 2.6 and train.schedule.cooldown_frac == 0.25 and run != "a"'
    )
    assert row.run == "b"
    assert list(read_groups([tmp_path / "ladder"], "run")) == ["a", "b"]
    with pytest.raises(UsageError, match=r"'train.schedul' at character 1 is no column"):
        read_rows([tmp_path / "ladder"], where="train.schedul == 1")


def test_compute_and_active_parameters_are_read(table):
    (row,) = read_rows([table("params,tokens,loss,flops,active_params\n8e6,2e7,3.5,1e15,2e6\n")])
    assert (row.train_flops, row.active_params) == (1e15, 2e6)
    with pytest.raises(DataError, match=r"line 2: active_params must be at most params \(8e\+06\)\. Got"):
        read_rows([table("params,tokens,loss,active_params\n8e6,2e7,3.5,9e6\n")])


def test_bits_become_nats_when_they_are_declared(table):
    path = table("params,tokens,val_bits_per_token\n8e6,2e7,2.0\n")
    columns = Columns(loss="val_bits_per_token")
    with pytest.raises(DataError, match="column 'val_bits_per_token' is in bits by its name") as caught:
        read_rows([path], columns)
    assert "--loss-unit bits" in str(caught.value)
    (row,) = read_rows([path], columns, loss_unit="bits")
    assert row.loss == pytest.approx(1.3862944)


@pytest.mark.parametrize("name", ["ppl", "val_ppl", "test_perplexity"])
def test_perplexities_are_refused(table, name):
    with pytest.raises(DataError, match="is a perplexity by its name"):
        read_rows([table(f"params,tokens,{name}\n8e6,2e7,20.0\n")], Columns(loss=name))


def test_names_that_only_contain_the_letters_are_no_units(table):
    (row,) = read_rows([table("params,tokens,orbit_loss\n8e6,2e7,2.0\n")], Columns(loss="orbit_loss"))
    assert row.loss == 2.0


def test_a_vocabulary_tells_a_loss_that_cannot_be(table):
    # ln 256 = 5.545, log2 256 = 8
    bits = table("params,tokens,loss\n1e6,2e7,7.5\n2e6,2e7,6.0\n4e6,2e7,5.0\n")
    with pytest.raises(
        DataError, match=r"a loss of 7\.5 is above ln 256 = 5\.545.*\(2 of 3 rows are\): all look like bits"
    ):
        read_rows([bits], vocab_size=256)
    wild = table("params,tokens,loss,vocab_size\n1e6,2e7,9.5,256\n2e6,2e7,4.0,256\n")
    with pytest.raises(DataError, match=r"line 2': a loss of 9\.5 is above ln 256.*it diverged") as caught:
        read_rows([wild])
    assert "--where 'loss < 5.545'" in str(caught.value)
    assert len(read_rows([wild], where="loss < 5.545")) == 1


def test_a_run_that_is_worse_than_guessing_diverged_and_is_no_row(tmp_path, write_run):
    write_run(tmp_path / "ladder" / "a", val_loss=7.5)  # of 1,024 tokens: ln 1024 = 6.931
    with pytest.raises(
        DataError, match=r"No finished run with a cool-down in .*ladder \(1 diverged, such as a\)\."
    ):
        read_rows([tmp_path / "ladder"])
    write_run(tmp_path / "ladder" / "b")
    assert [row.run for row in read_rows([tmp_path / "ladder"])] == ["b"]
    reason = "It ended at a loss of 7.5, above ln 1024 = 6.931, that of guessing."
    assert read_excluded([tmp_path / "ladder"]) == (Excluded(run="a", reason=reason),)


def test_a_line_without_a_name_is_called_what_messages_call_it(table):
    path = table("params,tokens,loss\n1,1,3\n2,1,9\n")
    (row,) = read_rows([path], where=f'run != "{path} line 3"')
    assert row.loss == 3


def test_a_table_without_lines_says_so(table):
    with pytest.raises(DataError, match=r"rows\.csv has no line below its first"):
        read_rows([table("params,tokens,loss\n")])


def test_a_law_of_accuracies_takes_the_column_of_accuracies(table):
    path = table("params,tokens,loss,acc\n1e6,1e9,0.4,0.7\n")
    assert [row.loss for row in read_rows([path], loss_unit="accuracy")] == [0.7]
    with pytest.raises(DataError, match="no column for accuracy; it has params, tokens, loss") as caught:
        read_rows([table("params,tokens,loss\n1e6,1e9,0.4\n")], loss_unit="accuracy")
    assert caught.value.hint is not None


def test_of_runs_a_law_of_accuracies_takes_what_they_measured(tmp_path, write_run, record_of):
    result = record_of().result
    measured = {"accuracy": Estimate(value=0.93, low=0.9, high=0.95)}
    write_run(tmp_path / "a", result=result.model_copy(update={"val_metrics": measured}))
    assert [row.loss for row in read_rows([tmp_path], loss_unit="accuracy")] == [0.93]
    assert [row.loss for row in read_rows([tmp_path], where="accuracy > 0.9")] == [2.75]
    write_run(tmp_path / "b")
    with pytest.raises(DataError, match="run 'b' measured no accuracy; it has bits_per_byte"):
        read_rows([tmp_path], loss_unit="accuracy")


def test_losses_all_above_guessing_are_of_another_unit(table):
    path = table("params,tokens,loss\n1,1,300\n2,1,250\n")
    with pytest.raises(DataError, match=r"2 of 2 rows are\): these are no nats a token"):
        read_rows([path], vocab_size=1000)
