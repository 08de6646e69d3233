import { describe, expect, test } from "vitest";
import { diagnose, type PodFacts, type PodTerms } from "../../components/serving/diagnosis";

const terms: PodTerms = { podLimitMiB: 2368, hostBudgetMiB: 1024, shmMiB: 64, placement: "hbm-first" };
const image = "registry/vllm@sha256:1";
const pod = (status: PodFacts["status"]): PodFacts => ({ metadata: { name: "vllm-1" }, spec: { containers: [{ image }] }, status });
const waiting = (reason: string, message = "") =>
    pod({ phase: "Pending", containerStatuses: [{ ready: false, restartCount: 0, state: { waiting: { reason, message } } }] });
const crashed = (exitCode: number, reason = "Error", restartCount = 3) =>
    pod({
        phase: "Running",
        containerStatuses: [
            { ready: false, restartCount, state: { waiting: { reason: "CrashLoopBackOff" } }, lastState: { terminated: { exitCode, reason } } },
        ],
    });
const warning = (reason: string, message: string) => ({ type: "Warning", reason, message });

test("a pod that is ready needs no diagnosis", () => {
    expect(diagnose(pod({ phase: "Running", containerStatuses: [{ ready: true }] }), [warning("Unhealthy", "once")], "log", terms)).toEqual([]);
});

describe("the cause comes first, in one line", () => {
    test.each<[string, PodFacts, ReturnType<typeof warning>[], string, string]>([
        [
            "a pod that fits no node",
            pod({
                phase: "Pending",
                conditions: [{ type: "PodScheduled", status: "False", message: "0/2 nodes are available:\n1 Insufficient nvidia.com/gpu." }],
            }),
            [],
            "",
            "is pending: 0/2 nodes are available: 1 Insufficient nvidia.com/gpu.",
        ],
        [
            "a bad pull secret",
            waiting("ImagePullBackOff", "Back-off pulling image"),
            [warning("Failed", 'Failed to pull image "x": failed to authorize: unexpected status: 401 Unauthorized'), warning("Failed", "Error: ErrImagePull")],
            "",
            `image ${image} cannot be pulled: the registry refuses the credentials; set registry.username and registryPassword to a user who may pull it`,
        ],
        [
            "a wrong digest",
            waiting("ErrImagePull", 'failed to resolve reference "x": not found'),
            [],
            "",
            `image ${image} cannot be pulled: the registry has no such digest; deploy one that is there (image.use), or build it`,
        ],
        [
            "a registry that is down",
            waiting("ErrImagePull", "dial tcp 10.0.0.1:443: connection refused"),
            [],
            "",
            `image ${image} cannot be pulled: dial tcp 10.0.0.1:443: connection refused`,
        ],
        [
            "a crash loop",
            crashed(1),
            [warning("BackOff", "Back-off restarting failed container")],
            "starting\nRuntimeError: no kernel\n",
            "its container ends with exit status 1 (3 restarts): RuntimeError: no kernel",
        ],
        [
            "a refusal of the launcher",
            crashed(78, "Error", 1),
            [],
            "managed-mem: device GH200\nmanaged-mem: --enable-sleep-mode: frees memory; remove it\n",
            "the launcher refused: --enable-sleep-mode: frees memory; remove it",
        ],
        [
            "a failing probe",
            pod({ phase: "Running", containerStatuses: [{ ready: false, state: {} }] }),
            [warning("Unhealthy", 'Startup probe failed: Get "http://10.0.0.2:8000/health": connection refused')],
            "",
            'its probe fails: Startup probe failed: Get "http://10.0.0.2:8000/health": connection refused',
        ],
        [
            "a pod past its memory limit",
            crashed(137, "OOMKilled"),
            [],
            "",
            "was killed at its memory limit of 2.3 GiB: term hostProcess (with pinned and headroom, 1.3 GiB) was exceeded, since hostOverflow (1.0 GiB) and shm (0.1 GiB) have hard limits of their own; raise node.hostProcessMiB",
        ],
        [
            "a volume that is not there",
            waiting("ContainerCreating"),
            [warning("FailedMount", 'MountVolume.SetUp failed for volume "models": not found')],
            "",
            'MountVolume.SetUp failed for volume "models": not found',
        ],
        ["a pod without a word", pod({ phase: "Pending" }), [], "", "is not ready: Pending"],
    ])("of %s", (_, facts, events, log, cause) => {
        expect(diagnose(facts, events, log, terms)[0]).toBe(`pod vllm-1: ${cause}`);
    });
});

test("a container that a failing probe killed is the probe's failure and not its exit status", () => {
    const killed = { type: "Normal", reason: "Killing", message: "Container vllm failed startup probe, will be restarted" };
    expect(diagnose(crashed(137, "Error"), [warning("Unhealthy", "Startup probe failed: 503"), killed], "", terms)[0]).toBe(
        "pod vllm-1: its probe fails: Startup probe failed: 503",
    );
});

test("the events follow, each once, and the last lines of the log, long ones cut", () => {
    const log = Array.from({ length: 40 }, (_, line) => `line ${line}`).join("\n") + `\n${"x".repeat(1000)}\n`;
    const lines = diagnose(
        crashed(1),
        [warning("BackOff", "again"), warning("BackOff", "again"), { type: "Normal", reason: "Pulled", message: "ok" }],
        log,
        terms,
    );
    expect(lines.filter((line) => line.startsWith("  event"))).toEqual(["  event BackOff: again"]);
    const logged = lines.filter((line) => line.startsWith("  log"));
    expect(logged).toHaveLength(15);
    expect(logged[0]).toBe("  log line 26");
    expect(logged.at(-1)).toHaveLength("  log ".length + 300);
});

test("where the log is gone, what the kubelet kept of it is shown", () => {
    const facts = pod({
        phase: "Running",
        containerStatuses: [{ ready: false, restartCount: 1, state: { terminated: { exitCode: 2, reason: "Error", message: "first\nlast word" } } }],
    });
    expect(diagnose(facts, [], "", terms)).toEqual([
        "pod vllm-1: its container ends with exit status 2 (1 restart): last word",
        "  log first",
        "  log last word",
    ]);
});
