from kleiber.runs import RunFolder
from kleiber.train.settle import as_settled
from kleiber.train.start import resolve


def test_what_is_asked_is_compared_as_resolved(recipe, make_record, tmp_path):
    run = RunFolder(tmp_path)
    assert resolve(recipe, run) is None
    record = make_record()
    known = as_settled(recipe, recipe.with_values(["parallel.num_threads=1"]), record.data)
    make_record(recipe=known).write(run.record_path)
    spelt_out = recipe.with_values(["model.num_heads=1", "model.mlp_width=48", "parallel.num_threads=null"])
    assert resolve(spelt_out, run) == known
