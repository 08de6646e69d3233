import * as fs from "node:fs";
import * as path from "node:path";
import { stageTable } from "../../components/stages/table";

/**
 * The same images as one `docker buildx bake` file: what a user would write who has the Dockerfile and
 * no Pulumi. Sources, base and arguments are read from the stack's configuration.
 */
export function bakeFile(program: string, registry: string, stackConfig: string): object {
    const config = fs.readFileSync(stackConfig, "utf8");
    const base = /name: (\S+stand-in\/pytorch)\S*\s+digest: (\S+)|digest: (\S+)\s+name: (\S+stand-in\/pytorch)/.exec(config);
    const baseImage = `${base?.[1] ?? base?.[4]}@${base?.[2] ?? base?.[3]}`;
    const sources = [...config.matchAll(/^\s+(src-[\w-]+):\s*(?:\{ )?path: ([^\s}]+)|^\s+(src-[\w-]+):\n\s+path: (\S+)/gm)].map((match) => [match[1] ?? match[3], match[2] ?? match[4]] as const);
    const contexts = Object.fromEntries([...sources, ["wheelhouse", "sandbox/wheelhouse/wheels"] as const, ["locks", "sandbox/wheelhouse/locks"] as const].map(([name, folder]) => [name ?? "", path.join(program, folder ?? "")]));
    const common = { context: path.join(program, "assets/vllm"), platforms: ["linux/arm64"], args: { BASE_IMAGE: baseImage, SOURCE_DATE_EPOCH: "1775088000" } };
    const pushed = (name: string) => [`type=image,push=true,oci-mediatypes=true,rewrite-timestamp=true,name=${registry}/bake/${name}`];
    const targets = [...stageTable.map(({ target }) => target), "build-managed-alloc"];
    const stages = Object.fromEntries(targets.map((target) => [target, { ...common, target, contexts, output: pushed(`stages:${target}`) }]));
    return {
        group: { default: { targets: [...targets, "final", "verify", "release"] } },
        target: {
            ...stages,
            final: { ...common, target: "final", contexts: { ...contexts, ...Object.fromEntries(targets.map((target) => [target, `target:${target}`])) }, output: pushed("stages:final") },
            verify: { ...common, target: "verify", contexts: { cmm: "target:final" }, output: ["type=cacheonly"] },
            release: { ...common, "dockerfile-inline": "FROM release\n", contexts: { release: "target:final" }, output: pushed("release:cmm-cmm") },
        },
    };
}
