import * as fs from "node:fs";
import * as path from "node:path";
import { Command } from "@pulumi/command/local";
import { Pod } from "@pulumi/kubernetes/core/v1";
import * as pulumi from "@pulumi/pulumi";
import { assetsFolder } from "../internal/assets";
import { problemLine, refuse } from "../internal/errors";
import { describePlan, kubeletAdvice, memoryTerms, readings } from "./describe";
import { factsPodSpec } from "./factsPod";
import { type NodeFacts, parseFacts, splitSections } from "./facts";
import type { Gh200NodeArgs, ResolvedGh200Node } from "./gh200NodeArgs";
import { memoryProfiles } from "./memory";
import { nodeState, sshTo } from "./nodeState";
import { memoryPicture } from "./picture";
import { type PlannedNode, planNode } from "./planNode";
import { judge, managedPath, measureNode, verdictLines } from "./verdict";

/**
 * One GH200 by its memory: which of the four profiles it is in, and what a pod on it may be promised.
 *
 * Facts are declared, since a preview must be complete without a node; a plan that exceeds the real
 * LPDDR is refused. Where a probe is asked for, the node's own facts stop an update that declares more
 * than there is; they change no manifest.
 */
export class Gh200Node extends pulumi.ComponentResource {
    /** Memory profile: `egm-numa`, `egm-driver`, `numa` or `driver`. */
    public readonly profile!: pulumi.Output<string>;
    /** HBM in MiB for weights and KV cache: what driver, others, CUDA context and reserve leave. */
    public readonly hbmBudgetMiB!: pulumi.Output<number>;
    /** HBM in MiB that stays free for activations, CUDA graphs and NCCL. */
    public readonly hbmReserveMiB!: pulumi.Output<number>;
    /** Share of CUDA's total memory that a vLLM without placement may take: the same budget as `--gpu-memory-utilization`. */
    public readonly gpuMemoryUtilization!: pulumi.Output<number>;
    /** Host memory in MiB that managed memory may overflow into. */
    public readonly hostBudgetMiB!: pulumi.Output<number>;
    /** Memory request and limit of the pod in MiB. */
    public readonly podLimitMiB!: pulumi.Output<number>;
    /** Size of `/dev/shm` in MiB, which is part of the pod's limit. */
    public readonly shmMiB!: pulumi.Output<number>;
    /** Room in MiB between the pod's terms and its limit, which the launcher leaves alone. */
    public readonly headroomMiB!: pulumi.Output<number>;
    /** The plan in words. */
    public readonly description!: pulumi.Output<string>;
    /** The plan as an SVG. */
    public readonly picture!: pulumi.Output<string>;
    /** What the kubelet of this node should be told, a line each. */
    public readonly kubeletAdvice!: pulumi.Output<string[]>;
    /** What the node said when it was measured, and whether that is what was declared; empty without a probe. */
    public readonly measured!: pulumi.Output<string[]>;

    constructor(name: string, args: Gh200NodeArgs, opts?: pulumi.ComponentResourceOptions) {
        super("gh200-vllm:index:Gh200Node", name, {}, opts);
        const planned = planNode(args);
        const { plan, memory, node } = planned;
        const facts = node.probe === undefined ? undefined : factsOf(this, name, node.probe, plan.profile).apply((text) => parseFacts(splitSections(text)));
        const measured = facts?.apply((said) => verdictOn(this, planned, said));
        // An update hands on what was declared only once it is measured; a preview is complete without.
        const gated = <T>(value: T): pulumi.Output<T> =>
            measured === undefined || pulumi.runtime.isDryRun() ? (pulumi.output(value as pulumi.Unwrap<T>) as pulumi.Output<T>) : measured.apply(() => value);
        say(this, planned);
        const outputs = {
            profile: gated(plan.profile as string),
            hbmBudgetMiB: gated(plan.hbmBudgetMiB),
            hbmReserveMiB: gated(plan.hbmReserveMiB),
            gpuMemoryUtilization: gated(plan.gpuMemoryUtilization),
            hostBudgetMiB: gated(plan.hostBudgetMiB),
            podLimitMiB: gated(plan.podLimitMiB),
            shmMiB: gated(plan.podTermsMiB.shm),
            headroomMiB: gated(plan.podTermsMiB.headroom),
            description: pulumi.output(describePlan(plan).join("\n")),
            picture: pulumi.output(memoryPicture(memoryTerms(memory, plan), plan)),
            kubeletAdvice:
                facts === undefined || pulumi.runtime.isDryRun()
                    ? pulumi.output(kubeletAdvice(plan))
                    : facts.apply((said) => kubeletAdvice(plan, measureNode(said))),
            measured: measured ?? pulumi.output<string[]>([]),
        };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}

/** Annotations of a facts Pod: what was declared and on which day it was asked; the node's boot and driver at that time. */
const declarationAnnotation = "ai.vllm.gh200/declared";
const stateAnnotation = "ai.vllm.gh200/node-state";

/**
 * What assets/node/facts says on the node. It is asked again on another day, for another declared profile, and after another boot,
 * driver or coherent mode of the node, which a preview cannot know and therefore leaves as they were.
 */
function factsOf(parent: Gh200Node, name: string, probe: NonNullable<ResolvedGh200Node["probe"]>, profile: string): pulumi.Output<string> {
    const script = fs.readFileSync(path.join(assetsFolder("node"), "facts"), "utf8");
    const day = new Date().toISOString().slice(0, 10);
    const state = nodeState(parent, probe);
    const asItWas = (property: string) => (pulumi.runtime.isDryRun() ? { ignoreChanges: [property] } : {});
    if (probe.method === "ssh") {
        const facts = new Command(
            `${name}-facts`,
            {
                // The last word is what ssh runs there; the script goes in by standard input.
                interpreter: sshTo(probe.host ?? ""),
                create: "sh -s",
                stdin: script,
                logging: "none",
                triggers: [script, probe.host, probe.run, profile, day, state],
            },
            { parent, ...asItWas("triggers[5]") },
        );
        return facts.stdout;
    }
    const pod = new Pod(
        `${name}-facts`,
        {
            // A Pod cannot be changed: another run is another name. The same with another annotation is made anew.
            metadata: {
                name: `${name}-facts-${probe.run}`,
                namespace: probe.namespace,
                labels: { "app.kubernetes.io/name": "gh200-facts" },
                // A running Pod counts as ready, and has said nothing yet.
                annotations: {
                    "pulumi.com/waitFor": "jsonpath={.status.phase}=Succeeded",
                    [declarationAnnotation]: `${profile} ${day}`,
                    [stateAnnotation]: state,
                },
            },
            spec: factsPodSpec({ ...probe, script, image: probe.image ?? "" }),
        },
        {
            parent,
            customTimeouts: { create: "3m" },
            replaceOnChanges: ["metadata.annotations"],
            deleteBeforeReplace: true,
            ...asItWas(`metadata.annotations["${stateAnnotation}"]`),
        },
    );
    return pod.status.containerStatuses.apply((statuses) => statuses?.[0]?.state?.terminated?.message ?? "");
}

function verdictOn(component: Gh200Node, { memory, managedMiB, node }: PlannedNode, facts: NodeFacts): string[] {
    const verdict = judge(memory, managedMiB, facts);
    const problems = verdict.problems.filter(({ path }) => !(path === managedPath && node.acknowledgeDeclaredExceedsMeasured));
    if (problems.length > 0) {
        // What waits for the node's outputs fails with the same lines, wrapped into the engine's own words.
        void pulumi.log.error(problems.map(problemLine).join("\n"), component);
    }
    refuse(problems);
    return verdictLines({ ...verdict, problems }, memory);
}

/** What a person has to read at every preview and update. */
function say(component: Gh200Node, { memory, plan, node }: PlannedNode): void {
    const lines = readings(memory);
    if (memoryProfiles[plan.profile].hidesMemory) {
        lines.push("acknowledged (node.acknowledgeEgmHidesMemory): EGM hides LPDDR from Linux");
    }
    if (node.acknowledgeDeclaredExceedsMeasured) {
        lines.push("acknowledged (node.acknowledgeDeclaredExceedsMeasured): what is declared may be more than was measured");
    }
    if (lines.length > 0) {
        void pulumi.log.warn(["the memory plan is declared, not proven:", ...describePlan(plan), ...lines].join("\n"), component);
    }
    // The system's reserve alone is any node's.
    const advice = kubeletAdvice(plan);
    if (advice.length > 1) {
        void pulumi.log.info(["the kubelet of this node should have:", ...advice].join("\n"), component);
    }
}
