import * as fs from "node:fs";
import * as path from "node:path";
import { parse } from "yaml";
import { stageTable } from "../../components/stages/table";

interface StackFile {
    config: {
        "gh200-vllm:image": { base: { name: string; digest: string }; sourceDateEpoch: number };
        "gh200-vllm:sources": Record<string, { path: string }>;
        "gh200-vllm:stages": { wheelhouse: string; locks: string };
    };
}

/**
 * The same images as one `docker buildx bake` file: what a user would write who has the Dockerfile and
 * no Pulumi. Sources, base and arguments are read from the stack's configuration.
 */
export function bakeFile(program: string, registry: string, stackConfig: string): object {
    const { config } = parse(fs.readFileSync(stackConfig, "utf8")) as StackFile;
    const { base, sourceDateEpoch } = config["gh200-vllm:image"];
    const { wheelhouse, locks } = config["gh200-vllm:stages"];
    const folders = { ...mapValues(config["gh200-vllm:sources"], (source) => source.path), wheelhouse, locks };
    const contexts = mapValues(folders, (folder) => path.join(program, folder));
    const common = {
        context: path.join(program, "assets/vllm"),
        platforms: ["linux/arm64"],
        args: { BASE_IMAGE: `${base.name}@${base.digest}`, SOURCE_DATE_EPOCH: `${sourceDateEpoch}` },
    };
    const pushed = (name: string) => [`type=image,push=true,oci-mediatypes=true,rewrite-timestamp=true,name=${registry}/bake/${name}`];
    const targets = [...stageTable.map(({ target }) => target), "build-managed-alloc"];
    const stageContexts = Object.fromEntries(targets.map((target) => [target, `target:${target}`]));
    return {
        group: { default: { targets: [...targets, "final", "verify", "release"] } },
        target: {
            ...Object.fromEntries(targets.map((target) => [target, { ...common, target, contexts, output: pushed(`stages:${target}`) }])),
            final: { ...common, target: "final", contexts: { ...contexts, ...stageContexts }, output: pushed("stages:final") },
            verify: { ...common, target: "verify", contexts: { cmm: "target:final" }, output: ["type=cacheonly"] },
            release: { ...common, "dockerfile-inline": "FROM release\n", contexts: { release: "target:final" }, output: pushed("release:cmm-cmm") },
        },
    };
}

function mapValues<A, B>(record: Record<string, A>, map: (value: A) => B): Record<string, B> {
    return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}
