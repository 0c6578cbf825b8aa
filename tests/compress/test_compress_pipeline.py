"""Steps one after the other: what one did is known to those that follow, after a cut too."""

from kleiber.compress.attempt import open_original
from kleiber.compress.calibration import calibration_of
from kleiber.compress.pipeline import run_steps
from kleiber.compress.steps import parse_step
from kleiber.runs import RunFolder


def test_that_units_were_cut_out_is_known_when_the_work_goes_on(trained, tmp_path):
    subject = open_original(trained, None, 0).subject
    calibration = calibration_of(subject.data, 8)
    steps = [parse_step(one) for one in ("shrink:mlp_width=8", "prune:ratio=0.5")]
    told = []

    def after(num):
        return run_steps(
            subject,
            steps[:num],
            calibration,
            tmp_path,
            source=RunFolder(trained).find_model(),
            on_progress=told.append,
        )[0]

    assert [after(num).is_cut for num in (0, 1, 2, 2)] == [False, True, True, True]
    assert told == ["shrink:mlp_width=8", "prune:ratio=0.5"]
