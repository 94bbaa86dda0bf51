"""A picture that cannot be drawn or written costs a run the picture only."""

import pytest

from jaxdl.run import RunConfig, plots, save_animation, save_figure


def figure(title="A"):
    made, axis = plots.new_figure(1, 1)
    axis.set_title(title)
    return made


def failing():
    raise ZeroDivisionError("no points\nat all")


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (failing, "one.png: could not be drawn (ZeroDivisionError: no points); the run goes on without it\n"),
        (lambda: figure("$50_to_$100"), "one.png: could not be drawn (ValueError: "),
    ],
)
def test_what_cannot_be_drawn_is_a_warning(draw, told, tmp_path, capfd):
    config = RunConfig(workdir=str(tmp_path))
    assert save_figure(config, "one", draw) is None
    said = capfd.readouterr().err
    assert said.startswith(f"warning: {tmp_path}/{told}")
    assert said.count("\n") == 1
    assert save_animation(config, "two", lambda: [figure(), failing()]) is None
    assert "two.gif: could not be drawn" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_in_its_place_is_a_warning_and_the_file_is_kept_else(tmp_path, capfd):
    config = RunConfig(workdir=str(tmp_path))
    kept = save_figure(config, "one", figure).read_bytes()
    assert kept[:4] == b"\x89PNG"
    save_figure(config, "one", failing)
    assert (tmp_path / "one.png").read_bytes() == kept
    (tmp_path / "two.png").mkdir()
    assert save_figure(config, "two", figure()) is None
    assert "two.png: is a folder" in capfd.readouterr().err


def test_names_from_elsewhere_are_drawn_as_they_are(tmp_path, capfd):
    path = save_figure(RunConfig(workdir=str(tmp_path)), "one", lambda: figure(plots.literal("$50_to_$100")))
    assert path.is_file()
    assert capfd.readouterr().err == ""
