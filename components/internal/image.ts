import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as dockerBuild from "@pulumi/docker-build";
import * as pulumi from "@pulumi/pulumi";
import { builderHook, failureHook } from "../builder/builderHook";
import type { BuilderArgs } from "../builder/connection";
import { builtForArgument } from "../builder/control";
import { lookInPreview } from "../image/collected";
import { materialise } from "./contexts";
import { sliceDockerfile } from "./dockerfile";
import { type Problem, refuse } from "./errors";
import { contextAddressProblems } from "../rules/gitAddress";
import { gitSecrets, type GitTokens } from "./gitAuth";
import { mapInput } from "./mapInput";

/** Everything that decides one image, before Pulumi's names for it. */
export interface ImageSpec {
    builder: BuilderArgs;
    /** Path of the Dockerfile, relative to the program. */
    dockerfile: string;
    /** Folder that the Dockerfile's COPY and ADD read from, relative to the program. */
    context: string;
    target: string;
    /**
     * Named contexts: a folder of this machine, a git address, or `docker-image://REPOSITORY@DIGEST`.
     * One whose name is a stage of the Dockerfile takes that stage's place.
     */
    namedContexts: Record<string, pulumi.Input<string>>;
    buildArgs: Record<string, pulumi.Input<string>>;
    /** Access tokens of private git contexts, by host; secret. Default: none. */
    gitTokens?: pulumi.Input<GitTokens>;
    /** What is said when the build starts. Default: nothing. */
    announcement?: string;
    /** Repository that the image is pushed to, without tag. */
    repository: pulumi.Input<string>;
    /** Keep BuildKit's cache of every step in a repository of its own, `REPOSITORY-cache:TARGET`. */
    registryCache: boolean;
}

type ChildOptions = pulumi.CustomResourceOptions & { parent: pulumi.Resource };

export interface BuiltImage {
    image: dockerBuild.Image;
    /** `sha256:...` of the image's manifest. */
    digest: pulumi.Output<string>;
    /** `REPOSITORY@DIGEST`: without a tag, so that a rebuild with the same result moves nothing. */
    reference: pulumi.Output<string>;
    /** Hash over everything that was given to the build. */
    contentHash: pulumi.Output<string>;
}

/** A push that keeps no time of its own: with SOURCE_DATE_EPOCH the same files give the same digest. */
export const reproducibleExport = "type=image,push=true,oci-mediatypes=true,rewrite-timestamp=true";

/**
 * One docker-build Image, as every component here builds it: on the remote builder, from a sliced
 * Dockerfile and content-addressed contexts, pushed by digest, never built during a preview and never
 * deleted from the registry.
 */
export function buildImage(name: string, spec: ImageSpec, opts: ChildOptions): BuiltImage {
    const inputs = buildInputs(spec);
    const contentHash = pulumi
        .all([inputs.dockerfile, inputs.context, inputs.buildArgs])
        .apply((parts) => createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 12));
    const tag = pulumi.interpolate`${spec.repository}:${spec.target}-${contentHash}`;
    const cacheRef = pulumi.interpolate`${spec.repository}-cache:${spec.target}`;
    const image = new dockerBuild.Image(
        name,
        {
            ...forWhom(inputs),
            tags: [tag],
            exports: [{ raw: reproducibleExport }],
            ...(spec.registryCache && {
                cacheFrom: [{ registry: { ref: cacheRef } }],
                cacheTo: [{ registry: { ref: cacheRef, mode: "max", imageManifest: true, ociMediaTypes: true } }],
            }),
        },
        imageOptions(name, spec, opts),
    );
    const reference = pulumi.interpolate`${spec.repository}@${image.digest}`;
    lookInPreview(opts.parent, reference, image.registries);
    return { image, digest: image.digest, reference, contentHash };
}

/** A build whose steps are checks: it leaves nothing but BuildKit's memory that they passed. */
export function verifyImage(name: string, spec: ImageSpec, opts: ChildOptions): dockerBuild.Image {
    return new dockerBuild.Image(name, { ...forWhom(buildInputs(spec)), exports: [{ cacheonly: {} }] }, imageOptions(name, spec, opts));
}

function buildInputs(spec: ImageSpec) {
    if (!fs.existsSync(spec.dockerfile)) {
        refuse([{ path: "dockerfile", value: spec.dockerfile, wrong: "does not exist", accepted: "a path relative to the program" }]);
    }
    const plainArgs = Object.fromEntries(Object.entries(spec.buildArgs).map(([key, value]) => [key, typeof value === "string" ? value : undefined]));
    const slice = sliceDockerfile(fs.readFileSync(spec.dockerfile, "utf8"), spec.target, Object.keys(spec.namedContexts), plainArgs);
    const named = Object.entries(spec.namedContexts)
        .filter(([key]) => slice.provided[key] !== undefined)
        .map(([key, location]): [string, { location: pulumi.Input<string> }] => [key, { location: contextLocation(key, location, slice.provided[key]!) }]);
    return {
        builder: { name: spec.builder.name },
        dockerfile: { inline: slice.text },
        context: { location: materialise(spec.context, slice.contextPaths, spec.dockerfile), named: Object.fromEntries(named) },
        target: spec.target,
        buildArgs: pick(spec.buildArgs, slice.args),
        ...gitSecrets(
            spec.gitTokens,
            named.map(([key]) => spec.namedContexts[key]!),
        ),
        platforms: [pulumi.output(spec.builder.platform) as pulumi.Output<dockerBuild.Platform>],
        push: false,
        buildOnPreview: false,
    };
}

/** With the name of whom the build is for, so that whoever waits for the builder can be told. No part of what the image is. */
function forWhom<I extends { buildArgs: ImageSpec["buildArgs"] }>(inputs: I): I {
    return { ...inputs, buildArgs: { ...inputs.buildArgs, [builtForArgument]: `${pulumi.getProject()}/${pulumi.getStack()}` } };
}

function imageOptions(name: string, spec: ImageSpec, opts: ChildOptions): pulumi.CustomResourceOptions {
    const hook = builderHook(opts.parent, name, spec.builder, spec.announcement);
    return pulumi.mergeOptions(opts, {
        retainOnDelete: true,
        // A renamed stack or builder builds nothing; whoever waits is told the name that the stack had at the last build.
        ignoreChanges: [`buildArgs.${builtForArgument}`, "builder.name"],
        hooks: { beforeCreate: [hook], beforeUpdate: [hook], onError: [failureHook(opts.parent, name, spec.builder)] },
    });
}

/** A folder's files that are read are copied to a path that their content names; an address is used as it is. */
function contextLocation(name: string, location: pulumi.Input<string>, paths: readonly string[]): pulumi.Input<string> {
    const path = `namedContexts.${name}`;
    return typeof location === "string" && !location.includes("://")
        ? materialise(location, paths)
        : mapInput(location, (address) => {
              refuse(address.includes("://") ? contextAddressProblems(path, address) : laterFolderProblems(path, address));
              return address;
          });
}

function laterFolderProblems(path: string, value: string): Problem[] {
    const wrong = "is a folder that is known only later, and its files are hashed when the program is written";
    return [{ path, value, wrong, accepted: "a folder as text, or an output that is an address" }];
}

/** An argument that no stage of the slice declares must not rebuild it. */
function pick<T>(record: Record<string, T>, keys: readonly string[]): Record<string, T> {
    return Object.fromEntries(Object.entries(record).filter(([key]) => keys.includes(key)));
}
