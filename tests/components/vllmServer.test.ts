import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, test } from "vitest";
import { dockerConfigJson } from "../../components/serving/manifests";
import { VllmServer, type VllmServerArgs } from "../../components/serving/vllmServer";
import { record, type Recorder, unknown, unknownOutput, valueOf } from "../support/mocks";
import { laterRefusal, refusal } from "../support/refusal";

const type = "gh200-vllm:index:VllmServer";
const kinds = {
    namespace: "kubernetes:core/v1:Namespace",
    account: "kubernetes:core/v1:ServiceAccount",
    secret: "kubernetes:core/v1:Secret",
    deployment: "kubernetes:apps/v1:Deployment",
    service: "kubernetes:core/v1:Service",
    policy: "kubernetes:networking.k8s.io/v1:NetworkPolicy",
};
const image = `atl.vultrcr.com/vllm/gh200-vllm-cmm@sha256:${"0".repeat(64)}`;

let recorder: Recorder;
beforeEach(async () => {
    recorder = await record();
});

function server(overrides: Partial<VllmServerArgs> = {}): VllmServer {
    return new VllmServer("vllm", {
        image,
        model: "Qwen/Qwen2.5-7B-Instruct",
        podLimitMiB: 7070,
        hbmBudgetMiB: 79_036,
        hostBudgetMiB: 1438,
        registryHost: "atl.vultrcr.com",
        pullUsername: "puller",
        pullPassword: "hunter2",
        ...overrides,
    });
}

type Container = { image: string; env: { name: string; value?: string; valueFrom?: unknown }[] };
type Deployment = { spec: { template: { spec: { containers: Container[]; imagePullSecrets?: unknown } } } };
const pod = () => (recorder.only(kinds.deployment, "vllm").inputs as Deployment).spec.template.spec;
const labels = { "app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": "vllm" };

test("a server is exactly these objects, all its children", async () => {
    server();
    await recorder.settled();
    expect(recorder.registrations.map((resource) => `${resource.type} ${resource.name}`).sort()).toEqual(
        [
            `${type} vllm`,
            `${kinds.namespace} vllm`,
            `${kinds.account} vllm`,
            `${kinds.secret} vllm-pull`,
            `${kinds.deployment} vllm`,
            `${kinds.service} vllm`,
            `${kinds.policy} vllm`,
        ].sort(),
    );
    for (const child of recorder.registrations.filter((resource) => resource.type !== type)) {
        expect(child.parent, child.type).toBe(`${type} vllm`);
    }
});

test("its deployment replaces the pod that holds the only GPU, and waits as long as a start may take", async () => {
    server({ modelGiB: 15 });
    await recorder.settled();
    expect(recorder.only(kinds.deployment, "vllm").inputs).toMatchObject({
        metadata: { name: "vllm", namespace: "vllm", labels },
        spec: {
            replicas: 1,
            strategy: { type: "Recreate" },
            selector: { matchLabels: labels },
            progressDeadlineSeconds: 623,
            template: { metadata: { labels } },
        },
    });
});

test("its pod has the image by digest and the node's plan", async () => {
    server({ hostReserveMiB: 512 });
    await recorder.settled();
    expect(pod().containers).toHaveLength(1);
    expect(pod().containers[0]!.image).toBe(image);
    const env = Object.fromEntries(pod().containers[0]!.env.map(({ name, value }) => [name, value]));
    expect(env).toMatchObject({
        MANAGED_MEM_PLACEMENT: "hbm-first",
        MANAGED_MEM_HBM: "79036MiB",
        MANAGED_MEM_HOST: "1438MiB",
        MANAGED_MEM_HOST_RESERVE: "512MiB",
    });
});

test("its service and network policy select that pod, on vLLM's port alone", async () => {
    server();
    await recorder.settled();
    expect(recorder.only(kinds.service, "vllm").inputs.spec).toEqual({
        selector: labels,
        ports: [{ name: "http", port: 8000, targetPort: "http" }],
    });
    expect(recorder.only(kinds.policy, "vllm").inputs.spec).toEqual({
        podSelector: { matchLabels: labels },
        policyTypes: ["Ingress"],
        ingress: [{ ports: [{ port: 8000, protocol: "TCP" }] }],
    });
});

test("its account gets no token of the API server", async () => {
    server();
    await recorder.settled();
    expect(recorder.only(kinds.account, "vllm").inputs.automountServiceAccountToken).toBe(false);
});

test("objects wait for what they need, and the service for a deployment that is up", async () => {
    server();
    await recorder.settled();
    const waits = (kind: string, name = "vllm") => recorder.only(kind, name).dependsOn;
    expect(waits(kinds.namespace)).toEqual([]);
    expect(waits(kinds.account)).toEqual([`${kinds.namespace} vllm`]);
    expect(waits(kinds.secret, "vllm-pull")).toEqual([`${kinds.namespace} vllm`]);
    expect(waits(kinds.deployment)).toEqual([`${kinds.secret} vllm-pull`, `${kinds.account} vllm`].sort());
    expect(waits(kinds.service)).toEqual([`${kinds.deployment} vllm`]);
    expect(waits(kinds.policy)).toEqual([`${kinds.namespace} vllm`]);
});

describe("secrets", () => {
    test("of the registry are secret in the inputs, and the pod has the Secret's name alone", async () => {
        server();
        await recorder.settled();
        const { inputs } = recorder.only(kinds.secret, "vllm-pull");
        expect(inputs).toMatchObject({ type: "kubernetes.io/dockerconfigjson", metadata: { name: "vllm-pull", namespace: "vllm" } });
        expect(secretText(inputs, ".dockerconfigjson")).toBe(dockerConfigJson("atl.vultrcr.com", "puller", "hunter2"));
        expect(pod().imagePullSecrets).toEqual([{ name: "vllm-pull" }]);
    });

    test("of Hugging Face are absent unless one is given", async () => {
        server();
        await recorder.settled();
        expect(recorder.ofType(kinds.secret).map(({ name }) => name)).toEqual(["vllm-pull"]);
        expect(pod().containers[0]!.env.map(({ name }) => name)).not.toContain("HF_TOKEN");
    });

    test("of Hugging Face are secret in the inputs, and the pod waits for them", async () => {
        server({ hfToken: pulumi.secret("hf_abc") });
        await recorder.settled();
        expect(secretText(recorder.only(kinds.secret, "vllm-hf").inputs, "token")).toBe("hf_abc");
        expect(pod().containers[0]!.env).toContainEqual({ name: "HF_TOKEN", valueFrom: { secretKeyRef: { name: "vllm-hf", key: "token" } } });
        expect(recorder.only(kinds.deployment, "vllm").dependsOn).toContain(`${kinds.secret} vllm-hf`);
    });

    test("stand in no other object", async () => {
        server({ hfToken: "hf_abc" });
        await recorder.settled();
        const others = recorder.registrations.filter(({ type: token }) => token !== kinds.secret);
        expect(JSON.stringify(others)).not.toMatch(/hunter2|hf_abc/);
    });
});

test("a preview shows the whole pod while the image is yet to be built", async () => {
    recorder = await record({ preview: true });
    server({ image: unknownOutput() });
    await recorder.settled();
    expect(pod().containers[0]!.image).toBe(unknown);
    expect(JSON.stringify(recorder.only(kinds.deployment, "vllm").inputs).split(unknown)).toHaveLength(2);
});

test("its endpoint is inside the cluster", async () => {
    const { endpoint, namespace, serviceName } = server({ namespace: "models" });
    expect(await valueOf(endpoint)).toBe("http://vllm.models.svc:8000");
    expect(await valueOf(namespace)).toBe("models");
    expect(await valueOf(serviceName)).toBe("vllm");
});

describe("inputs are refused", () => {
    test("for an image that floats, and every other mistake with it", () => {
        expect(refusal(() => server({ image: "vllm/vllm-openai:latest", cpus: 1.5, placement: "fast" as never }))).toEqual([
            "serving.image: vllm/vllm-openai:latest: is no image by digest; accepted: REPOSITORY@sha256:DIGEST",
            "serving.placement: fast: is not accepted; accepted: hbm-first, managed, managed-prefetch or off",
            "serving.cpus: 1.5: is no whole number of CPUs",
        ]);
    });

    test("for an image that turns out to float", async () => {
        // Pulumi may say first which property of which child was being made ready.
        expect(await laterRefusal(() => server({ image: pulumi.output("a/b:latest") }))).toEqual([
            expect.stringMatching(/(^|: )serving\.image: a\/b:latest: is no image by digest; accepted: REPOSITORY@sha256:DIGEST$/),
        ]);
    });
});

/** A Secret's text, which must be marked as secret in the inputs: by itself or with what it stands in. */
function secretText(inputs: Record<string, unknown>, key: string): string {
    const data = inputs.stringData as Record<string, { secret: string }> & { secret?: Record<string, string> };
    return data.secret?.[key] ?? data[key]!.secret;
}
