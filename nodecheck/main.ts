import * as fs from "node:fs";
import * as path from "node:path";
import * as yaml from "yaml";
import { problemLine, UserError } from "../components/internal/errors";
import { describePlan, gib, kubeletAdvice } from "../components/node/describe";
import type { NodeFacts } from "../components/node/facts";
import type { Gh200NodeArgs } from "../components/node/gh200NodeArgs";
import { planMemory } from "../components/node/memory";
import { planNode } from "../components/node/planNode";
import { declarationOf, judge, managedPath, measureNode, refusalOf, verdictLines } from "../components/node/verdict";
import { askOverSsh, askThisMachine, readSaved, Unanswered } from "./ask";
import { capacityJob } from "./capacityJob";

/*
 * `npm run node:check -- --host NAME`: what a GH200 is, before there is a cluster. Reads only. Exit status 0: the node is
 * what was declared; 1: it is not; 2: it could not be asked.
 */

const USAGE = `npm run node:check -- WHERE [--stack NAME] [--json]
  --host NAME        asks over ssh, with this machine's own configuration; USER@NAME too
  --local            asks this machine
  --files FOLDER     reads saved text: nvidia-smi, numactl, meminfo, free, iomem, params, dmidecode, c2c (with or without .txt)
  --stack NAME       compares with gh200-vllm:node of Pulumi.NAME.yaml; without it the node is described alone
  --capacity-job IMAGE   prints the Job that proves how much managed memory reaches, for kubectl apply; IMAGE by digest
Root on the node sees more (dmidecode, the addresses of /proc/iomem).`;

const root = path.join(__dirname, "..");

function main(args: string[]): number {
    const option = (name: string): string | undefined => {
        const at = args.indexOf(name);
        return at < 0 ? undefined : args[at + 1];
    };
    const image = option("--capacity-job");
    if (image !== undefined) {
        process.stdout.write(
            yaml.stringify(
                capacityJob(
                    image,
                    fs.readFileSync(path.join(root, "assets/node/capacity"), "utf8"),
                    planned(option("--stack") ?? "gh200"),
                    sectionOf(option("--stack") ?? "gh200", "serving"),
                ),
            ),
        );
        return 0;
    }
    const [host, files, stack] = [option("--host"), option("--files"), option("--stack")];
    if ([host !== undefined, files !== undefined, args.includes("--local")].filter(Boolean).length !== 1) {
        console.error(USAGE);
        return 2;
    }
    const facts = factsOf(host, files);
    if (args.includes("--json")) {
        console.log(JSON.stringify(facts, null, 2));
    }
    return report(facts, stack);
}

function factsOf(host: string | undefined, files: string | undefined): NodeFacts {
    try {
        return host !== undefined ? askOverSsh(host) : files !== undefined ? readSaved(files) : askThisMachine();
    } catch (error) {
        const asked = host !== undefined ? `--host: ${host}` : files !== undefined ? `--files: ${files}` : "--local";
        throw error instanceof Unanswered ? new Unanswered(`${asked}: ${error.message}`) : error;
    }
}

function report(facts: NodeFacts, stack: string | undefined): number {
    const [refused, own] = [refusalOf(facts), declarationOf(facts)];
    if (own === undefined) {
        const silent = facts.gpuName === undefined && facts.nvidiaSmiSays === undefined && !facts.truncated;
        if (silent || refused === undefined) {
            throw new Unanswered("this is no GH200 that can be judged: it shows no HBM (nvidia-smi), or no NUMA nodes");
        }
        console.error(problemLine(refused));
        // A card that is the wrong one was asked; a node that did not say enough was not.
        return refused.value === undefined ? 2 : 1;
    }
    const declared = stack === undefined ? undefined : planned(stack);
    const memory = declared?.memory ?? own;
    const measured = measureNode(facts);
    const found = judge(memory, declared?.managedMiB ?? memory.hbmMiB, facts);
    const verdict = { ...found, problems: found.problems.filter(({ path: at }) => !(at === managedPath && declared?.node.acknowledgeDeclaredExceedsMeasured)) };
    const free = facts.numaNodes?.filter(({ firstCpu }) => firstCpu !== undefined).reduce((sum, { freeMiB }) => sum + (freeMiB ?? 0), 0);
    const plan = declared?.plan ?? planMemory(memory, { ...standardPod, managedMiB: memory.hbmMiB + memory.lpddrMiB });
    console.log(
        [
            ...verdictLines(verdict, memory),
            ...(free === undefined
                ? []
                : [
                      `free LPDDR: ${gib(free)}${(measured.superchips ?? 1) > 1 ? " on the whole node" : ""}; ` +
                          `free HBM: ${gib(memory.hbmMiB - (facts.hbmReservedMiB ?? 0) - (facts.hbmInUseMiB ?? 0))}`,
                  ]),
            ...(declared === undefined ? ["the most that one pod could be promised:"] : ["the plan:"]),
            ...describePlan(plan).map((line) => `  ${line}`),
            "the kubelet should have:",
            ...kubeletAdvice(plan, measured).map((line) => `  ${line}`),
        ].join("\n"),
    );
    return verdict.problems.length === 0 ? 0 : 1;
}

/** The pod's terms by default (components/node/gh200NodeArgs.ts), for a node that no stack declares. */
const standardPod = { hostProcessMiB: 4096, shmMiB: 1024, pinnedMiB: 0, headroomMiB: 512, lmcacheMiB: 0, builderMiB: 0, builderPlace: "elsewhere" } as const;

function planned(stack: string): ReturnType<typeof planNode> {
    return planNode(sectionOf(stack, "node") as Gh200NodeArgs);
}

function sectionOf(stack: string, section: string): object {
    const file = path.join(root, `Pulumi.${stack}.yaml`);
    if (!fs.existsSync(file)) {
        throw new Unanswered(`--stack: ${stack}: there is no ${path.basename(file)}`);
    }
    const { config } = yaml.parse(fs.readFileSync(file, "utf8")) as { config: Record<string, object | undefined> };
    return config[`gh200-vllm:${section}`] ?? {};
}

try {
    process.exitCode = main(process.argv.slice(2));
} catch (error) {
    if (!(error instanceof Unanswered || error instanceof UserError)) {
        throw error;
    }
    console.error(error.message);
    process.exitCode = 2;
}
