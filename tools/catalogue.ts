import * as fs from "node:fs";
import * as path from "node:path";
import { pinnedVersion } from "./versions";

export type ToolName =
    | "pulumi"
    | "pulumi-language-nodejs"
    | "pulumi-language-yaml"
    | "pulumi-language-python"
    | "pulumi-language-go"
    | "buildkitd"
    | "buildctl"
    | "buildx"
    | "registry"
    | "pulumi-resource-docker-build"
    | "containerd"
    | "containerd-shim-runc-v2"
    | "ctr"
    | "etcd"
    | "kubernetes"
    | "kubectl"
    | "kwok"
    | "pulumi-resource-kubernetes"
    | "pulumi-resource-command"
    | "pulumi-resource-docker";

export interface Entry {
    readonly name: ToolName;
    readonly version: string;
    /** Folder under tools/go with go.mod, go.sum and what the project itself adds. */
    readonly folder: string;
    /** What is built there: an import path, or a package of the folder's own. */
    readonly package: string;
    readonly linkerFlags: readonly string[];
    /** Files of a module that the folder's own package embeds: its name for them, and theirs. */
    readonly embeds?: { readonly module: string; readonly files: Readonly<Record<string, string>> };
    /** A command line tool that may come from PATH, from this version on. */
    readonly onPath?: { readonly commands: readonly string[]; readonly versionArguments: readonly string[]; readonly minimum: string };
    /** Taken from the folder of another tool, which it belongs to and must match. */
    readonly besides?: ToolName;
    /** A plug-in of Pulumi, looked for in its plug-in folders and downloaded where that works. */
    readonly plugin?: string;
    readonly standIn?: true;
    /** Another name of a binary that is built already. */
    readonly aliasOf?: ToolName;
}

const GO = path.join(__dirname, "go");
export const folderOf = (entry: Pick<Entry, "folder">): string => path.join(GO, entry.folder);

const pin = (folder: string, module: string): string => pinnedVersion(fs.readFileSync(path.join(GO, folder, "go.mod"), "utf8"), module);

const PULUMI = "github.com/pulumi/pulumi";
const pulumi = pin("pulumi", `${PULUMI}/pkg/v3`);
const languages = pin("languages", `${PULUMI}/sdk/v3`);
const yaml = pin("language-yaml", `${PULUMI}-yaml`);
const buildkit = pin("buildkit", "github.com/moby/buildkit");
const buildx = pin("buildx", "github.com/docker/buildx");
const registry = pin("registry", "github.com/distribution/distribution/v3");
const dockerBuild = pin("docker-build", "github.com/pulumi/pulumi-docker-build");
const containerd = pin("containerd", "github.com/containerd/containerd/v2");
const etcd = pin("etcd", "go.etcd.io/etcd/server/v3");
const kubernetes = pin("kubernetes", "k8s.io/kubernetes");
const kwok = pin("kwok", "sigs.k8s.io/kwok");
// Of these, only source revisions or nothing at all is served as modules: the folders' own main.go have the versions.
const KUBERNETES_PROVIDER = "4.25.0";
const COMMAND_PLUGIN = "1.2.1";
const DOCKER_PLUGIN = "5.2.0";

/** Linker flags: without its version a tool calls itself unknown, and what asks for a minimum refuses it. */
const stamp = (variable: string, value: string): string => `-X ${variable}=${value}`;
const [major, minor] = kubernetes.split(".");

const buildkitEntry = (name: "buildkitd" | "buildctl"): Entry => ({
    name,
    version: buildkit,
    folder: "buildkit",
    package: `github.com/moby/buildkit/cmd/${name}`,
    linkerFlags: [stamp("github.com/moby/buildkit/version.Version", `v${buildkit}`)],
    onPath: { commands: [name], versionArguments: ["--version"], minimum: "0.30.0" },
});

const containerdEntry = (name: "containerd" | "containerd-shim-runc-v2" | "ctr"): Entry => ({
    name,
    version: containerd,
    folder: "containerd",
    package: `github.com/containerd/containerd/v2/cmd/${name}`,
    linkerFlags: [stamp("github.com/containerd/containerd/v2/version.Version", `v${containerd}`)],
    ...(name === "containerd" ? { onPath: { commands: [name], versionArguments: ["--version"], minimum: "2.1.0" } } : { besides: "containerd" as const }),
});

/** In the order in which they are built: what shows first results soonest comes first. */
export const catalogue: readonly Entry[] = [
    {
        name: "pulumi",
        version: pulumi,
        folder: "pulumi",
        package: `${PULUMI}/pkg/v3/cmd/pulumi`,
        linkerFlags: [stamp(`${PULUMI}/sdk/v3/go/common/version.Version`, `v${pulumi}`)],
        // The npm SDK's own version: an older CLI lacks hooks that the program registers.
        onPath: { commands: ["pulumi"], versionArguments: ["version"], minimum: "3.270.0" },
    },
    { name: "pulumi-language-nodejs", version: languages, folder: "languages", package: "./nodejs", linkerFlags: [], besides: "pulumi" },
    buildkitEntry("buildkitd"),
    buildkitEntry("buildctl"),
    {
        name: "buildx",
        version: buildx,
        folder: "buildx",
        package: "github.com/docker/buildx/cmd/buildx",
        linkerFlags: [stamp("github.com/docker/buildx/version.Version", `v${buildx}`)],
        onPath: { commands: ["buildx", "docker-buildx"], versionArguments: ["version"], minimum: "0.29.0" },
    },
    {
        name: "registry",
        version: registry,
        folder: "registry",
        package: "github.com/distribution/distribution/v3/cmd/registry",
        linkerFlags: [stamp("github.com/distribution/distribution/v3/version.version", `v${registry}`)],
        onPath: { commands: ["registry"], versionArguments: ["--version"], minimum: "3.0.0" },
    },
    {
        name: "pulumi-resource-docker-build",
        version: dockerBuild,
        folder: "docker-build",
        package: "github.com/pulumi/pulumi-docker-build/provider/cmd/pulumi-resource-docker-build",
        linkerFlags: [stamp("github.com/pulumi/pulumi-docker-build/provider.Version", dockerBuild)],
        plugin: "docker-build",
    },
    containerdEntry("containerd"),
    containerdEntry("containerd-shim-runc-v2"),
    containerdEntry("ctr"),
    {
        // 3.4, which Debian 12 has, starts and then fails Kubernetes' watch lists.
        name: "etcd",
        version: etcd,
        folder: "etcd",
        package: "go.etcd.io/etcd/server/v3",
        linkerFlags: [],
        onPath: { commands: ["etcd"], versionArguments: ["--version"], minimum: "3.6.0" },
    },
    {
        name: "kubernetes",
        version: kubernetes,
        folder: "kubernetes",
        package: ".",
        linkerFlags: [
            ["gitVersion", `v${kubernetes}`],
            ["gitMajor", major],
            ["gitMinor", minor],
        ].map(([variable, value]) => stamp(`k8s.io/component-base/version.${variable}`, value ?? "")),
    },
    {
        name: "kubectl",
        version: kubernetes,
        folder: "kubernetes",
        package: ".",
        linkerFlags: [],
        aliasOf: "kubernetes",
        // One minor version either side of the API server's is what Kubernetes supports.
        onPath: { commands: ["kubectl"], versionArguments: ["version", "--client"], minimum: `${major}.${Number(minor) - 1}.0` },
    },
    {
        name: "pulumi-resource-kubernetes",
        version: KUBERNETES_PROVIDER,
        folder: "kubernetes-provider",
        package: ".",
        linkerFlags: [],
        plugin: "kubernetes",
        embeds: {
            module: "github.com/pulumi/pulumi-kubernetes/provider/v4",
            files: {
                "schema.json": "cmd/pulumi-resource-kubernetes/schema.json",
                "terraform-mapping.json": "cmd/pulumi-resource-kubernetes/terraform-mapping.json",
            },
        },
    },
    { name: "pulumi-resource-command", version: COMMAND_PLUGIN, folder: "stand-in", package: "./command", linkerFlags: [], plugin: "command", standIn: true },
    { name: "pulumi-resource-docker", version: DOCKER_PLUGIN, folder: "stand-in", package: "./docker", linkerFlags: [], plugin: "docker", standIn: true },
    {
        name: "kwok",
        version: kwok,
        folder: "kwok",
        package: "sigs.k8s.io/kwok/cmd/kwok",
        linkerFlags: [stamp("sigs.k8s.io/kwok/pkg/consts.Version", `v${kwok}`)],
        onPath: { commands: ["kwok"], versionArguments: ["--version"], minimum: "0.7.0" },
    },
];

/** For programs in other languages that use the package: no part of what this program or its sandbox needs. */
const languageHosts: readonly Entry[] = [
    {
        name: "pulumi-language-yaml",
        version: yaml,
        folder: "language-yaml",
        package: `${PULUMI}-yaml/cmd/pulumi-language-yaml`,
        besides: "pulumi",
        linkerFlags: [stamp(`${PULUMI}-yaml/pkg/version.Version`, `v${yaml}`)],
    },
    {
        name: "pulumi-language-python",
        version: languages,
        folder: "languages",
        package: "./python",
        linkerFlags: [],
        besides: "pulumi",
        embeds: { module: `${PULUMI}/sdk/v3`, files: { "python/pulumi-language-python-exec": "python/cmd/pulumi-language-python-exec" } },
    },
    { name: "pulumi-language-go", version: languages, folder: "languages", package: "./golang", linkerFlags: [], besides: "pulumi" },
];

export const allTools: readonly ToolName[] = catalogue.map((entry) => entry.name);

/** What running the program needs, sandbox or not. */
export const pulumiTools: readonly ToolName[] = catalogue
    .filter((entry) => entry.plugin !== undefined || entry.name.startsWith("pulumi"))
    .map((entry) => entry.name);

export function entryOf(name: ToolName): Entry {
    const entry = [...catalogue, ...languageHosts].find((candidate) => candidate.name === name);
    if (entry === undefined) {
        throw new Error(`no tool is called ${name}`);
    }
    return entry;
}

export const goFolders = (): string[] => [...new Set([...catalogue, ...languageHosts].map(folderOf))];
