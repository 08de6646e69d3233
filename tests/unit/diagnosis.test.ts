import { describe, expect, test } from "vitest";
import { diagnose, type PodFacts, type PodTerms, together, uncreated } from "../../components/serving/diagnosis";

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
            "is pending: 0/2 nodes are available: 1 Insufficient nvidia.com/gpu.; free a GPU, and see that NVIDIA's device plugin runs",
        ],
        [
            "a bad pull secret",
            waiting("ImagePullBackOff", "Back-off pulling image"),
            [warning("Failed", 'Failed to pull image "x": failed to authorize: unexpected status: 401 Unauthorized'), warning("Failed", "Error: ErrImagePull")],
            "",
            `image ${image} cannot be pulled: the registry refuses the credentials; set registry.pullUsername, or registry.username, and its password to a user who may pull it`,
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
            `image ${image} cannot be pulled: docker.io: nothing listens there (dial tcp 10.0.0.1:443: connection refused); start the registry, or correct registry.address`,
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

const rejected = (reason: string, message: string) => pod({ phase: "Failed", reason, message });
const ended = (exitCode: number, reason: string, message?: string) =>
    pod({ phase: "Running", containerStatuses: [{ ready: false, restartCount: 0, state: { terminated: { exitCode, reason, message } } }] });
const of = (facts: PodFacts, log = "", ...events: ReturnType<typeof warning>[]) => diagnose(facts, events, log, terms)[0]!.replace("pod vllm-1: ", "");

describe("a pod that a node does not take", () => {
    // The kubelet's own words, from the issues named.
    test.each<[string, string, string, RegExp]>([
        [
            "openshift/instaslice-operator#140",
            "UnexpectedAdmissionError",
            "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected",
            /^was rejected by its node \(UnexpectedAdmissionError\): Allocate failed .* which is unexpected; the GPU is not well: .*nvidia-smi/,
        ],
        [
            "NVIDIA/k8s-device-plugin#231",
            "UnexpectedAdmissionError",
            "Pod Allocate failed due to device plugin GetPreferredAllocation rpc failed with err: rpc error: code = Unknown desc = Unable to retrieve list of available devices: error creating nvml.Device 3: nvml: GPU is lost, which is unexpected",
            /GPU is lost, which is unexpected; the GPU is not well/,
        ],
        [
            "kubernetes/kubernetes#84869",
            "TopologyAffinityError",
            "Pod was rejected: Resources cannot be allocated with Topology locality",
            /^was rejected by its node \(TopologyAffinityError\): Resources cannot be allocated .*topologyManagerPolicy/,
        ],
        [
            "eviction",
            "Evicted",
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 64Mi. ",
            /^was rejected by its node \(Evicted\): The node was low on resource: memory\..*ran short of memory/,
        ],
        ["eviction", "Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.", /serving\.modelCacheClaim/],
        [
            "pkg/kubelet/lifecycle",
            "NodeAffinity",
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
            /serving\.gpuProduct/,
        ],
        [
            "pkg/kubelet/lifecycle",
            "OutOfnvidia.com/gpu",
            "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, requested: 1, used: 1, capacity: 1",
            /another pod has the GPU/,
        ],
        [
            "pkg/kubelet/lifecycle",
            "OutOfcpu",
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 72000, used: 850, capacity: 72000",
            /serving\.cpus/,
        ],
        [
            "pkg/kubelet/lifecycle",
            "OutOfmemory",
            "Pod was rejected: Node didn't have enough resource: memory, requested: 9, used: 1, capacity: 2",
            /declare less/,
        ],
        ["pkg/kubelet/preemption", "Preempting", "Preempted in order to admit critical pod", /serving\.priorityClassName/],
        ["pkg/kubelet/nodeshutdown", "Terminated", "Pod was terminated in response to imminent node shutdown.", /the node was shut down/],
        ["a reason of a later Kubernetes", "Novel", "something new", /^was rejected by its node \(Novel\): something new$/],
    ])("%s: %s", (_, reason, message, line) => {
        expect(of(rejected(reason, message))).toMatch(line);
    });

    test("is said once, however many the ReplicaSet makes", () => {
        const reports = ["a", "b", "c"].map((name) => diagnose({ ...rejected("Evicted", "low"), metadata: { name } }, [], "", terms));
        expect(together([...reports, [], diagnose(waiting("ContainerCreating"), [], "", terms)])).toEqual([
            "pod a: was rejected by its node (Evicted): low; free the node of what its message names (and 2 more of its pods)",
            "pod vllm-1: is not ready: ContainerCreating",
        ]);
    });
});

test("what the scheduler says is kept without its words on preemption, and each reason has its mend", () => {
    const message =
        "0/5 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 3 node(s) didn't match Pod's node affinity/selector. preemption: 0/5 nodes are available: 1 No preemption victims found for incoming pod, 4 Preemption is not helpful for scheduling.";
    const line = of(pod({ phase: "Pending", conditions: [{ type: "PodScheduled", status: "False", message }] }));
    expect(line).not.toContain("preemption");
    expect(line).toMatch(
        /^is pending: 0\/5 nodes .*affinity\/selector\.; free a GPU.*; set serving\.gpuProduct.*; tolerate the node's taint with serving\.tolerations$/,
    );
});

describe("a pod that does not exist", () => {
    const created = (message: string) => uncreated("vllm", [warning("FailedCreate", message)]);
    test.each([
        [
            'Error creating: pods "vllm-5-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=1, limited: requests.nvidia.com/gpu=1',
            /ResourceQuota/,
        ],
        ['Error creating: pods "vllm-5-x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false', /Pod Security Standard/],
        ['Error creating: admission webhook "validate.kyverno.svc-fail" denied the request: no', /who runs that policy/],
        ['Error creating: pods "vllm-5-x" is forbidden: pod rejected: RuntimeClass "nvidia" not found', /serving\.runtimeClassName/],
        ['Error creating: pods "vllm-5-x" is forbidden: no PriorityClass with name gold was found', /serving\.priorityClassName/],
    ])("is told from what its ReplicaSet was answered: %s", (message, mend) => {
        const [line, ...more] = created(message);
        expect(line).toMatch(/^deployment vllm: its pod is not let in: /);
        expect(line).not.toContain("Error creating");
        expect(line).toMatch(mend);
        expect(more).toEqual([]);
    });

    test("and nothing is said where nothing was refused", () => {
        expect(uncreated("vllm", [warning("ScalingReplicaSet", "up")])).toEqual([]);
    });
});

describe("a container that does not start", () => {
    test.each<[string, PodFacts, ReturnType<typeof warning>[], RegExp]>([
        [
            "NVIDIA/gpu-operator#549",
            waiting("ContainerCreating"),
            [
                warning(
                    "FailedCreatePodSandBox",
                    'Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "nvidia" is configured',
                ),
            ],
            /no runtime for "nvidia" is configured; install NVIDIA's container toolkit .*serving\.runtimeClassName/,
        ],
        [
            "a Secret that is gone",
            waiting("CreateContainerConfigError", 'secret "gh200-vllm-hf" not found'),
            [],
            /^its container cannot be started: secret "gh200-vllm-hf" not found; the Secret is gone/,
        ],
        [
            "a volume's Secret that is gone",
            waiting("ContainerCreating"),
            [warning("FailedMount", 'MountVolume.SetUp failed for volume "hf-token" : secret "gh200-vllm-hf" not found')],
            /^MountVolume\.SetUp failed .*; the Secret is gone/,
        ],
        [
            "a driver that does not run",
            ended(
                128,
                "StartError",
                "failed to create containerd task: OCI runtime create failed: nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file",
            ),
            [],
            /^its container cannot be started: .*; let the node's NVIDIA driver and container toolkit run/,
        ],
        ["an image of another processor", waiting("RunContainerError", "exec /opt/gh200/vllm_managed_mem.py: exec format error"), [], /linux\/arm64$/],
    ])("%s", (_, facts, events, line) => {
        expect(of(facts, "", ...events)).toMatch(line);
    });
});

describe("an image that cannot be pulled", () => {
    const digest = `sha256:403${"4".repeat(61)}`;
    const pulled = (why: string, reason = "ErrImagePull") =>
        of(
            { ...waiting(reason), spec: { containers: [{ image: `r.example/v@${digest}` }] } },
            "",
            warning("Failed", `Failed to pull image "r.example/v@${digest}": ${why}`),
        );
    const request = `failed to resolve reference "r.example/v@${digest}": failed to do request: Head "https://r.example/v2/v/manifests/${digest}": `;

    test.each([
        [
            `${request}tls: failed to verify certificate: x509: certificate signed by unknown authority`,
            /r\.example: its certificate is signed by an authority that is not trusted \(tls: failed.*\); give containerd/,
        ],
        [
            `${request}dial tcp: lookup r.example on 10.96.0.10:53: no such host`,
            /r\.example: its name has no address \(dial tcp.*\); correct registry\.address/,
        ],
        [`${request}dial tcp 10.0.0.1:443: i/o timeout`, /r\.example: it did not answer in time/],
        [
            `unexpected status from HEAD request to https://r.example/v2/v/manifests/${digest}: 503 Service Unavailable`,
            /r\.example: it answers 503 Service Unavailable/,
        ],
        ["failed to copy: write /var/lib/containerd/data: no space left on device", /no space is left on the node's disk/],
        ["failed to extract layer: unpigz: corrupted", /cannot be pulled: Failed to pull image .*unpigz: corrupted$/],
    ])("for %s says so, and blames no credentials for a 403 in a digest", (why, line) => {
        expect(pulled(why)).toMatch(line);
        expect(pulled(why)).not.toContain("credentials");
    });

    test("for its name, or by its policy, says so", () => {
        expect(pulled("", "InvalidImageName")).toMatch(/this is no image's name/);
        expect(pulled("", "ErrImageNeverPull")).toMatch(/pull policy is Never/);
    });
});

describe("a server that ended", () => {
    const wrapped = "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}";
    test.each<[string, PodFacts, string, string]>([
        [
            "with status 1 by a refusal in the engine",
            crashed(1),
            `(EngineCore pid=7) managed-mem: refused: weights: need more than 2.00 GiB HBM and 0.00 GiB host; accepted: less\n${wrapped}`,
            "the launcher refused: weights: need more than 2.00 GiB HBM and 0.00 GiB host; accepted: less",
        ],
        [
            "with status 78 and a last word that is no refusal",
            crashed(78),
            "(APIServer pid=1) managed-mem: refused: --enable-sleep-mode: no; accepted: without it\n(APIServer pid=1) managed-mem: memory shown to vLLM 141.40 GiB",
            "the launcher refused: --enable-sleep-mode: no; accepted: without it",
        ],
        [
            "with the engine's own error",
            crashed(1),
            `(EngineCore pid=7) RuntimeError: No CUDA GPUs are available\n${wrapped}`,
            "its container ends with exit status 1 (3 restarts): RuntimeError: No CUDA GPUs are available; give the pod its GPU: serving.runtimeClassName must be NVIDIA's, and the node's driver must run",
        ],
        [
            "with status 0, its engine killed",
            ended(0, "Completed"),
            "(APIServer pid=1) ERROR 12-01 00:00:00 [core_client.py:668] Engine core proc EngineCore died unexpectedly, shutting down client.",
            "its engine was killed and the server ended with exit status 0 (0 restarts): EngineCore died without a word of its own; look for the kernel's OOM killer on the node (dmesg), and raise node.hostProcessMiB",
        ],
        [
            "with status 0, for another reason",
            ended(0, "Completed"),
            "ValueError: no such thing",
            "its server ended with exit status 0 (0 restarts), which nobody asked it to: ValueError: no such thing",
        ],
        [
            "with status 0, and no word",
            ended(0, "Completed"),
            "",
            "its server ended with exit status 0 (0 restarts), which nobody asked it to: its log does not say why",
        ],
        ["by a segmentation fault", crashed(139), "", "its container ends with exit status 139 (SIGSEGV, 3 restarts)"],
        [
            "by an abort",
            crashed(134),
            "terminate called\n  what():  CUDA error: misaligned address",
            "its container ends with exit status 134 (SIGABRT, 3 restarts): what(): CUDA error: misaligned address",
        ],
        [
            "by a full /dev/shm",
            crashed(135),
            "",
            "its container ends with exit status 135 (SIGBUS, 3 restarts): a bus error, as of a full /dev/shm; raise node.shmMiB",
        ],
        [
            "killed from outside its limit",
            crashed(137),
            "loading",
            "was killed below its memory limit (exit status 137, SIGKILL, 3 restarts): by the node's OOM killer or by hand; look at the node's kernel log (dmesg)",
        ],
    ])("%s", (_, facts, log, line) => {
        expect(of(facts, log)).toBe(line);
    });

    test("after a child of it was killed at the pod's limit is not said to be killed itself", () => {
        expect(of(crashed(1, "OOMKilled"))).toMatch(/^had a process killed at its memory limit of 2\.3 GiB: term hostProcess/);
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
