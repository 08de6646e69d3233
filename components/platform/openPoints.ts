import * as pulumi from "@pulumi/pulumi";
import { isLoopbackRegistry, registryHost } from "../image/reference";
import { howToSet, howToSetSecret, inputName, type Problem, refuse } from "../internal/errors";
import { isWithoutSecrets } from "../internal/withoutSecrets";
import { declaredBuilderProblems } from "../rules/builder";
import { certificateProblems, halfPairProblems } from "../rules/certificates";
import { leftOutProblems } from "../rules/stages";
import { localRevision } from "../stages/localSource";
import { planProblems } from "../stages/plan";
import { defaultSources, type SourceFacts } from "../stages/sources";
import { stageTable } from "../stages/table";
import type { SettledPlatform, SourceArgs } from "./cmmPlatformArgs";

export type ResolvedSource = SourceFacts & { path?: string };

/** The stage table's sources with those that the stack names put over them. */
export function resolveSources(overrides: Record<string, SourceArgs | undefined> = {}): Record<string, ResolvedSource> {
    return Object.fromEntries(
        Object.entries(defaultSources).map(([key, facts]) => {
            const override = overrides[key] ?? {};
            // Another repository or ref does not contain the table's commit.
            const moved = override.repository !== undefined || override.ref !== undefined;
            return [key, { ...facts, ...(moved && { commit: undefined }), ...override }];
        }),
    );
}

/** What of a source is built: its commit, a folder's commit and state, or its ref while it is unpinned. */
export function sourceRevision(source: ResolvedSource): string {
    return source.path === undefined ? (source.commit ?? source.ref) : localRevision(source.path);
}

/** `NAME@DIGEST`, or the name alone while the base is unpinned. */
export function baseReference(base: SettledPlatform["image"]["base"]): string {
    return base.digest === undefined ? base.name : `${base.name}@${base.digest}`;
}

/** An image's or repository's name without the registry on this machine, whose port is another every time. */
export function withoutLocalPort(name: string): string {
    return isLoopbackRegistry(name) ? name.slice(registryHost(name).length + 1) : name;
}

/** What a preview can show and an update must not start with. */
export function openPoints(args: SettledPlatform): Problem[] {
    return [...servingPoints(args), ...(args.image.use === undefined ? buildPoints(args) : [])];
}

/** Stops an update, not a preview, before its first resource; and both where the stages do not fit the builder. */
export function refuseOpenPoints(args: SettledPlatform): void {
    if (args.image.use === undefined) {
        refuse(planProblems(args.stages));
    }
    if (!pulumi.runtime.isDryRun()) {
        refuse(openPoints(args));
    }
}

/** Whether a registry is this machine's own, as a sandbox's is; one that is made with the program is not. */
export function isOwnRegistry(address: pulumi.Input<string>): boolean {
    return typeof address === "string" && isLoopbackRegistry(address);
}

function servingPoints({ serving, registry: { address } }: SettledPlatform): Problem[] {
    if (!serving?.acceptStandIn || isOwnRegistry(address)) {
        return [];
    }
    return [
        {
            path: inputName("serving.acceptStandIn"),
            value: true,
            wrong: `would run stand-ins from ${typeof address === "string" ? address : "a registry that is known only later"}`,
            accepted: "true only where the registry is this machine's own",
            fix: "remove serving.acceptStandIn",
        },
    ];
}

function buildPoints(args: SettledPlatform): Problem[] {
    const problems: Problem[] = [];
    if (!args.builder.endpoint) {
        problems.push({
            path: inputName("builder.endpoint"),
            wrong: "is unset, so there is no builder",
            accepted: "tcp://HOST:PORT of a BuildKit daemon on the GH200",
            fix: howToSet("builder.endpoint", "tcp://HOST:PORT"),
        });
    }
    if (args.image.base.digest === undefined) {
        problems.push({
            path: inputName("image.base"),
            value: args.image.base.name,
            wrong: "is unpinned",
            accepted: "a digest",
            fix: howToSet("image.base.digest", "sha256:DIGEST"),
        });
    }
    const read = new Set(stageTable.filter(({ target }) => args.stages.prebuilt[target] === undefined).flatMap(({ sources }) => sources));
    for (const [key, source] of Object.entries(resolveSources(args.sources))) {
        if (source.commit === undefined && source.path === undefined && read.has(key)) {
            problems.push({
                path: inputName(`sources.${key}`),
                value: `${source.repository}#${source.ref}`,
                wrong: "is unpinned",
                accepted: "a full commit",
                fix: howToSet(`sources.${key}.commit`, "COMMIT"),
            });
        }
    }
    const { endpoint, caCertificate, allowEmulation } = args.builder;
    if (typeof endpoint === "string") {
        problems.push(
            ...declaredBuilderProblems(inputName("builder"), { endpoint, encrypted: (caCertificate ?? "") !== "", allowEmulation: allowEmulation === true }),
        );
    }
    problems.push(...credentialProblems(args));
    problems.push(...leftOutProblems(inputName("stages.disabled"), args.stages.disabled));
    return problems;
}

/** Credentials that can be told wrong without asking anybody. A preview that was given no secrets says so, and misses none. */
function credentialProblems({ builder, registry }: SettledPlatform): Problem[] {
    const known = (text: pulumi.Input<string> | undefined) => (typeof text === "string" ? text : undefined);
    const isSet = (text: pulumi.Input<string> | undefined) => text !== undefined && text !== "";
    const path = inputName("builder");
    const problems = certificateProblems(path, {
        caCertificate: known(builder.caCertificate),
        clientCertificate: known(builder.clientCertificate),
        clientKey: known(builder.clientKey),
    });
    if (isWithoutSecrets()) {
        return problems;
    }
    const pair = { certificate: isSet(builder.clientCertificate), key: isSet(builder.clientKey) };
    problems.push(...halfPairProblems(path, pair, howToSetSecret("builderClientKey", "builder.clientKey")));
    if (isSet(registry.username) && !isSet(registry.password)) {
        problems.push({
            path: inputName("registry.username"),
            value: registry.username,
            wrong: "has no password, so nothing is pushed",
            accepted: "both or neither",
            fix: howToSetSecret("registryPassword", "registry.password"),
        });
    }
    if (!isSet(registry.username) && isSet(registry.password)) {
        problems.push({
            path: inputName("registry.username"),
            wrong: "is unset, though its password is set",
            accepted: "both or neither",
            fix: howToSet("registry.username", "NAME"),
        });
    }
    return problems;
}
