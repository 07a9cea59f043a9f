"""QMP through the server: what may be asked, what is refused, and what QEMU says itself."""

from __future__ import annotations

import json
import os
import signal

import anyio

from support import PATIENCE, Account, serving


def test_a_guest_can_be_looked_at_and_steered(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)

            async def status() -> str:
                asked = await session.call("qemu_monitor", command="query-status")
                assert (asked["truncated"], asked["next_step"]) == (False, None)
                return str(json.loads(asked["answer"])["status"])

            assert await status() == "running"
            await session.call("qemu_monitor", command="stop")
            assert await status() == "paused"
            await session.call("qemu_monitor", command="cont")
            assert await status() == "running"
            listed = await session.call("qemu_monitor", command="qom-list", arguments={"path": "/machine"})
            assert "soc0" in listed["answer"]
            await session.call("qemu_monitor", command="system_reset")
            again = await session.call("qemu_read", wait_for="Hit any key", timeout=PATIENCE)
            assert again["matched"]

    anyio.run(scenario)


def test_a_command_that_reaches_beyond_the_guest_is_refused_and_does_nothing(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            file = user.home / "memory"
            saved = {"val": 0x80000000, "size": 4096, "filename": str(file)}
            found = await session.refused("qemu_monitor", command="pmemsave", arguments=saved)
            assert found.code == "guest.command_refused"
            assert "rawtap serve --open-monitor" in str(found)
            assert "system_reset" in str(found)
            assert "query-*" in str(found)
            assert not file.exists()
            line = {"command-line": "info version"}
            assert (
                await session.refused("qemu_monitor", command="human-monitor-command", arguments=line)
            ).code == found.code
            assert "qemu_shutdown" in str(await session.refused("qemu_monitor", command="quit"))
            assert (await session.refused("qemu_monitor", command='query-status"}')).code == "request.invalid"
            assert (await session.call("qemu_status"))["guests"][0]["state"] == "running"

    anyio.run(scenario)


def test_the_operator_can_open_every_command(user: Account) -> None:
    """And its files are those of the folders that the operator gave, of which guests have what they are given else."""
    folder, secret = user.home / "images", user.home / "secret"
    folder.mkdir()
    os.chown(folder, user.uid, user.gid)
    secret.write_bytes(bytes(512))
    secret.chmod(0o666)

    async def scenario() -> None:
        async with serving(user, "--open-monitor", "--image-dir", folder) as session:
            await session.boot(network=False)
            saved = {"val": 0x80000000, "size": 4096, "filename": str(folder / "memory")}
            await session.call("qemu_monitor", command="pmemsave", arguments=saved)
            assert (folder / "memory").stat().st_size == 4096
            for file in (user.home / "memory", secret):
                found = await session.refused(
                    "qemu_monitor", command="pmemsave", arguments=saved | {"filename": str(file)}
                )
                assert f"Could not open '{file}': Permission denied" in str(found)
            block = {"driver": "file", "node-name": "secret", "filename": str(secret), "read-only": True}
            found = await session.refused("qemu_monitor", command="blockdev-add", arguments=block)
            assert f"Could not open '{secret}': Permission denied" in str(found)
            assert secret.read_bytes() == bytes(512)
            line = {"command-line": "info version"}
            told = await session.call("qemu_monitor", command="human-monitor-command", arguments=line)
            assert json.loads(told["answer"])[0].isdigit()

    anyio.run(scenario)


def test_what_qemu_refuses_comes_with_its_own_class_and_text(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            unknown = await session.refused("qemu_monitor", command="query-weather")
            assert unknown.code == "guest.failed"
            assert "CommandNotFound: The command query-weather has not been found" in str(unknown)
            wrong = await session.refused("qemu_monitor", command="qom-list", arguments={"path": "/nowhere"})
            assert "DeviceNotFound: Device '/nowhere' not found" in str(wrong)
            more = await session.refused("qemu_monitor", command="stop", arguments={"now": True})
            assert "GenericError: Parameter 'now' is unexpected" in str(more)

    anyio.run(scenario)


def test_a_qemu_that_stands_still_costs_no_more_than_the_call_says(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            booted = await session.boot(network=False)
            os.kill(booted["pid"], signal.SIGSTOP)
            found = await session.refused("qemu_monitor", command="query-status", timeout=0.2)
            assert found.code == "guest.failed"
            assert "did not answer query-status within 0.2 s" in str(found)
            assert f"its process {booted['pid']} is stopped" in str(found)
            os.kill(booted["pid"], signal.SIGCONT)
            # The late answer is nobody's: this one's own comes.
            told = await session.call("qemu_monitor", command="query-version")
            assert "qemu" in json.loads(told["answer"])

    anyio.run(scenario)


def test_a_long_answer_is_cut_and_its_rest_can_be_had(user: Account) -> None:
    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            parts: list[str] = []
            for _ in range(100):
                offset = sum(map(len, parts))
                page = await session.call("qemu_monitor", command="query-command-line-options", offset=offset)
                parts.append(page["answer"])
                if page["next_step"] is None:
                    break
                assert page["truncated"]
                assert len(page["answer"]) == 8000
                assert f"offset={offset + 8000}" in page["next_step"]
            assert len(parts) > 2
            assert {"option": "smp-opts"}.items() <= next(
                each for each in json.loads("".join(parts)) if each["option"] == "smp-opts"
            ).items()
            assert (await session.refused("qemu_monitor", command="stop", offset=5)).code == "request.invalid"

    anyio.run(scenario)


def test_text_that_qemu_cannot_read_does_not_cost_the_connection(user: Account) -> None:
    """Given as text, as some clients give objects: so it holds what JSON itself forbids."""

    async def scenario() -> None:
        async with serving(user) as session:
            await session.boot(network=False)
            for arguments in ('{"path": "\\ud800"}', '{"path": NaN}', '{"path": 1e999}', {"path": "\ufffe"}):
                found = await session.refused("qemu_monitor", command="qom-list", arguments=arguments)
                assert found.code == "request.invalid"
            for arguments in ({"path": 10**40}, {"path": "a\0b"}, {"path": "x" * 60000}, {"a": [[]] * 400}):
                found = await session.refused("qemu_monitor", command="qom-list", arguments=arguments)
                assert found.code == "guest.failed"
                assert len(str(found)) < 1000
            status = await session.call("qemu_monitor", command="query-status")
            assert json.loads(status["answer"])["running"]

    anyio.run(scenario)
