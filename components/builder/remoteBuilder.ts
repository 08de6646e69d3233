import { isIP } from "node:net";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { isHost, isHostPort } from "../image/reference";
import { hookName } from "../internal/hookName";
import { resolve } from "../internal/resolve";
import type { SameShape } from "../internal/sameShape";
import { driverOptions, forgetBuilder, instanceName, writeCertificates } from "./buildxStore";
import { oldestBuildkit, resolvedConnection } from "./connection";

/** The BuildKit daemon that images are built on. */
export interface RemoteBuilderArgs {
    /**
     * Address of the BuildKit daemon, `tcp://HOST:PORT`. Nothing is dialled until an image is built, so
     * a preview needs no builder. Default: none, which a build refuses in one line.
     */
    endpoint?: pulumi.Input<string>;
    /**
     * Name of the builder in the buildx store of the machine that runs the update. Default: project and stack, e.g. `gh200-vllm-prod`,
     * so that two stacks on one machine never write one entry. An image keeps the name that it was first built under: renaming builds nothing.
     */
    name?: pulumi.Input<string>;
    /**
     * Platform that the daemon must run on, as BuildKit writes it. Default: `linux/arm64`, the GH200's.
     */
    platform?: pulumi.Input<string>;
    /** PEM text of the CA that signed the daemon's certificate. Default: none, and the connection is not encrypted. */
    caCertificate?: pulumi.Input<string>;
    /** PEM text of the certificate that this client shows to the daemon (mTLS). Default: none. */
    clientCertificate?: pulumi.Input<string>;
    /** PEM text of the client certificate's key; secret. Default: none. */
    clientKey?: pulumi.Input<string>;
    /** Host name that the daemon's certificate must carry. Default: the host of `endpoint`. */
    serverName?: pulumi.Input<string>;
    /**
     * Oldest BuildKit that may build. Default: `0.31.0`, the first with per-step memory limits
     * (`exec.meta.linux.resources`); the Dockerfile frontend is the daemon's own.
     */
    minBuildkitVersion?: pulumi.Input<string>;
    /**
     * Accept a daemon that only emulates `platform`. Default: false, because emulation turns a compile
     * of hours into days. For sandboxes.
     */
    allowEmulation?: pulumi.Input<boolean>;
    /**
     * Refuse a build, in one line that names the holder, while the daemon is building for somebody else.
     * Default: false; the build then waits for the daemon's lock, and says for whom.
     */
    refuseWhenBusy?: pulumi.Input<boolean>;
    /**
     * Also model the builder as docker.BuildxBuilder of `@pulumi/docker`, so that it has a life cycle in
     * Pulumi's state. Default: false. Needs a Docker daemon, in previews too, and ties the state to one
     * machine: for stacks of one workstation.
     */
    buildxBuilderResource?: boolean;
}

export const remoteBuilderSchema = z.strictObject({
    endpoint: z
        .string()
        .refine((text) => text === "" || (text.startsWith("tcp://") && isHostPort(text.slice("tcp://".length))), {
            error: "is no BuildKit address; accepted: tcp://HOST:PORT",
        })
        .default("")
        .meta({ description: "Address of the BuildKit daemon that runs on the GH200." }),
    name: z
        .string()
        .regex(/^[a-z][a-z0-9-]*$/, { error: "is no buildx builder name; accepted: lower-case letters, digits, dashes" })
        .optional()
        .meta({ description: "Name of the builder in the buildx store of the machine that runs the update; project and stack where absent." }),
    platform: z
        .string()
        .regex(/^[a-z0-9]+\/[a-z0-9]+(\/v\d+)?$/, { error: "is no platform; accepted: e.g. linux/arm64" })
        .default("linux/arm64")
        .meta({ description: "Platform that the daemon must run on." }),
    caCertificate: z.string().default("").meta({ description: "PEM text of the CA that signed the daemon's certificate." }),
    clientCertificate: z.string().default("").meta({ description: "PEM text of the certificate shown to the daemon." }),
    clientKey: z.string().default("").meta({ description: "PEM text of the client certificate's key.", secret: true }),
    serverName: z
        .string()
        .refine((text) => text === "" || isHost(text) || isIP(text) !== 0, { error: "is no host name; accepted: a name or an address without port" })
        .default("")
        .meta({ description: "Host name that the daemon's certificate must carry; the endpoint's host where empty." }),
    minBuildkitVersion: z
        .string()
        .default(oldestBuildkit)
        .meta({ description: "Oldest BuildKit that may build.", source: "per-step memory limits: moby/buildkit 0.31" }),
    allowEmulation: z.boolean().default(false).meta({ description: "Accept a daemon that only emulates the platform; for sandboxes." }),
    refuseWhenBusy: z
        .boolean()
        .default(false)
        .meta({ description: "Refuse a build while the daemon is building for somebody else, in place of waiting for its lock." }),
    buildxBuilderResource: z
        .boolean()
        .default(false)
        .meta({ description: "Model the builder as docker.BuildxBuilder too; needs a Docker daemon and one workstation." }),
});
const shapesAgree: SameShape<pulumi.Unwrap<RemoteBuilderArgs>, z.input<typeof remoteBuilderSchema>> = true;
void shapesAgree;

/**
 * The BuildKit daemon on the GH200, by its facts: address, platform, mutual TLS, minimum version.
 *
 * By default it creates nothing. State is shared between machines and buildx's store is not, so every image
 * writes the builder into the store of the machine it is built from, and checks the daemon, in a hook
 * just before its build (builderHook.ts).
 */
export class RemoteBuilder extends pulumi.ComponentResource {
    /** Name of the builder in the buildx store. */
    public readonly name!: pulumi.Output<string>;
    /** Address of the daemon. */
    public readonly endpoint!: pulumi.Output<string>;
    /** Platform that it builds for. */
    public readonly platform!: pulumi.Output<string>;
    /** Host name in the daemon's certificate; empty where it is the endpoint's. */
    public readonly serverName!: pulumi.Output<string>;
    /** PEM text of the daemon's CA. */
    public readonly caCertificate!: pulumi.Output<string>;
    /** PEM text of the client's certificate. */
    public readonly clientCertificate!: pulumi.Output<string>;
    /** PEM text of the client's key; secret. */
    public readonly clientKey!: pulumi.Output<string>;
    /** Oldest BuildKit that may build. */
    public readonly minBuildkitVersion!: pulumi.Output<string>;
    /** Whether a daemon that only emulates the platform is accepted. */
    public readonly allowEmulation!: pulumi.Output<boolean>;
    /** Whether a build is refused while the daemon is building for somebody else. */
    public readonly refuseWhenBusy!: pulumi.Output<boolean>;

    constructor(name: string, args: RemoteBuilderArgs, opts?: pulumi.ComponentResourceOptions) {
        // Inputs, because that is what policies see before anything is done.
        const declared = {
            endpoint: args.endpoint ?? "",
            encrypted: pulumi.output(args.caCertificate).apply((text) => (text ?? "").trim() !== ""),
            allowEmulation: args.allowEmulation ?? false,
        };
        super("gh200-vllm:index:RemoteBuilder", name, declared, opts);
        const { buildxBuilderResource: _, ...resolved } = resolve("builder", remoteBuilderSchema, args);
        const ownName = instanceName(pulumi.getProject(), pulumi.getStack());
        const outputs = { ...resolved, name: pulumi.output(args.name).apply((given) => given ?? ownName), clientKey: pulumi.secret(args.clientKey ?? "") };
        if (args.buildxBuilderResource) {
            outputs.name = buildxBuilder(this, name, outputs).name;
        }
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}

/** The provider takes certificates as files and writes the builder itself; so only the files are ours to write. */
function buildxBuilder(parent: pulumi.Resource, name: string, builder: Parameters<typeof resolvedConnection>[0]): docker.BuildxBuilder {
    const connection = resolvedConnection(builder);
    const certificates = new pulumi.ResourceHook(hookName(parent, "certificates"), async () => {
        writeCertificates(await connection);
        forgetBuilder((await connection).name);
    });
    const options = pulumi
        .all([builder.name, builder.serverName, builder.caCertificate])
        .apply(([builderName, serverName = "", caCertificate = ""]) => driverOptions({ ...emptyConnection, name: builderName, serverName, caCertificate }));
    return new docker.BuildxBuilder(
        name,
        { name: builder.name, endpoint: builder.endpoint, remote: options },
        // Another name would replace it.
        { parent, hooks: { beforeCreate: [certificates] }, ignoreChanges: ["name"] },
    );
}

const emptyConnection = {
    endpoint: "",
    platform: "",
    clientCertificate: "",
    clientKey: "",
    minBuildkitVersion: "",
    allowEmulation: false,
    refuseWhenBusy: false,
};
