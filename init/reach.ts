import { builderProblems, probeBuilder, unreachableProblem } from "../components/builder/probe";
import { remoteBuilderSchema } from "../components/builder/remoteBuilder";
import { registryHost } from "../components/image/reference";
import { wantsLogin } from "../components/image/registryClient";
import type { Problem } from "../components/internal/errors";
import { type Answers, given } from "./answers";
import { apiServerVersion } from "./cluster";
import { declare } from "./declaration";

/** What was found behind an address: what a person may know, and what has to be mended. Problems stand at configuration paths. */
export interface Reached {
    found: string[];
    problems: Problem[];
}

/** The same question and judgement as before every build. */
export async function reachBuilder(answers: Answers): Promise<Reached> {
    const { builder, clientKey } = declare(answers);
    const { buildxBuilderResource: _, ...connection } = remoteBuilderSchema.parse({ ...builder, clientKey });
    try {
        const facts = await probeBuilder(connection);
        const problems = builderProblems(connection, facts);
        return { problems, found: problems.length > 0 ? [] : [`BuildKit ${facts.version} answers, and runs on ${facts.platforms[0]}`] };
    } catch (error) {
        return { found: [], problems: [unreachableProblem(connection, error)] };
    }
}

export async function reachRegistry(answers: Answers): Promise<Reached> {
    const host = registryHost(answers.registry ?? "");
    try {
        const login = (await wantsLogin(host)) ? "wants a login" : "needs no login";
        const whose = given(answers, "user") === undefined ? "; none is declared, so Docker's own on each machine counts" : "";
        return { found: [`${host} answers, and ${login}${login.startsWith("wants") ? whose : ""}`], problems: [] };
    } catch (error) {
        const { message } = error as Error;
        return {
            found: [],
            problems: [
                {
                    path: "registry.address",
                    value: answers.registry,
                    wrong: `no registry answers https://${host}/v2/ (${message})`,
                    accepted: "HOST/NAMESPACE of a registry that is reached from here",
                    fix: "start it, correct the address, or have Node.js trust its CA (NODE_EXTRA_CA_CERTS)",
                },
            ],
        };
    }
}

export async function reachCluster(answers: Answers): Promise<Reached> {
    const context = given(answers, "context");
    if (context === undefined) {
        return { found: ["no cluster is named: an update takes the kubeconfig's current context"], problems: [] };
    }
    try {
        return { found: [`Kubernetes ${await apiServerVersion(context)} answers`], problems: [] };
    } catch (error) {
        return {
            found: [],
            problems: [
                {
                    path: "cluster.context",
                    value: context,
                    wrong: `its API server does not answer (${(error as Error).message})`,
                    accepted: "a context whose cluster is reached from here, or none",
                    fix: "start it, correct the kubeconfig, or take --context none",
                },
            ],
        };
    }
}
