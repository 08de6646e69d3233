/** A resource as `pulumi stack export` has it, as far as it is read here. */
interface StateResource {
    urn: string;
    type: string;
    custom: boolean;
    id?: string;
    parent?: string;
    provider?: string;
    inputs?: Record<string, unknown>;
    dependencies?: string[];
    propertyDependencies?: Record<string, string[]>;
}

export interface State {
    version: number;
    deployment: { manifest: object; resources: StateResource[] };
}

/**
 * The same providers, images and Kubernetes objects as an updated stack holds, each with the inputs it
 * has there, written down flat: no component, no schema, no Dockerfile is read, the images one after
 * another. No program that leads to the same state can do with less.
 */
export const plainProgram = `import * as fs from "node:fs";
import * as dockerBuild from "@pulumi/docker-build";
import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
class Plain extends pulumi.CustomResource {}
const { builds, cluster, resources } = JSON.parse(fs.readFileSync("resources.json", "utf8"));
const providers = { "docker-build": new dockerBuild.Provider("builds", builds), kubernetes: new Provider("cluster", cluster) };
let last: Plain | undefined;
for (const { type, name, inputs } of resources) {
    const image = type === "docker-build:index:Image";
    const provider = providers[type.split(":")[0] as keyof typeof providers];
    const resource: Plain = new Plain(type, name, inputs, { provider, dependsOn: image && last ? [last] : [], retainOnDelete: image });
    last = image ? resource : last;
}
`;

/** What `plainProgram` reads: inputs without the markers that Pulumi keeps in state. */
export function plainResources(state: State): object {
    const provider = (name: string) => inputs(state.deployment.resources.find(({ urn }) => urn.endsWith(`::${name}`)));
    const { registries } = provider("builds");
    return {
        builds: { registries: typeof registries === "string" ? (JSON.parse(registries) as unknown) : registries },
        cluster: provider("cluster"),
        resources: plain(state).map((resource) => ({ type: resource.type, name: nameOf(resource), inputs: inputs(resource) })),
    };
}

/** The state of that program's stack after an update: the same resources without components and secrets. */
export function plainState(state: State): State {
    const stack = "urn:pulumi:bench::baseline::pulumi:pulumi:Stack::baseline-bench";
    const urn = (resource: { urn: string; type: string }) => `urn:pulumi:bench::baseline::${resource.type}::${nameOf(resource)}`;
    const providers = state.deployment.resources.filter(({ type }) => type.startsWith("pulumi:providers:"));
    const moved = [...providers, ...plain(state)].map((resource) => {
        const provider = providers.find((candidate) => resource.provider?.startsWith(`${candidate.urn}::`));
        return {
            ...(revealed(resource) as StateResource),
            urn: urn(resource),
            parent: stack,
            dependencies: [],
            propertyDependencies: {},
            ...(provider !== undefined && { provider: `${urn(provider)}::${provider.id}` }),
        };
    });
    const root = { urn: stack, custom: false, type: "pulumi:pulumi:Stack" };
    return { version: state.version, deployment: { manifest: state.deployment.manifest, resources: [root, ...moved] } };
}

const plain = (state: State) => state.deployment.resources.filter(({ custom, type }) => custom && !type.startsWith("pulumi:providers:"));

const nameOf = ({ urn }: { urn: string }) => urn.split("::").pop() ?? "";

function inputs(resource: StateResource | undefined): Record<string, unknown> {
    const kept = Object.entries(resource?.inputs ?? {}).filter(([key]) => !key.startsWith("__") && key !== "version");
    return Object.fromEntries(kept.map(([key, value]) => [key, revealed(value)]));
}

/** `pulumi stack export --show-secrets` keeps a secret as its marker and its text in JSON. */
function revealed(value: unknown): unknown {
    if (typeof value !== "object" || value === null) {
        return value;
    }
    if (Array.isArray(value)) {
        return value.map(revealed);
    }
    const record = value as Record<string, unknown>;
    return typeof record.plaintext === "string" && Object.keys(record).length === 2
        ? revealed(JSON.parse(record.plaintext))
        : Object.fromEntries(Object.entries(record).map(([key, inner]) => [key, revealed(inner)]));
}
