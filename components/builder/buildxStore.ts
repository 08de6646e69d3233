import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import type { BuilderConnection } from "./probe";

/**
 * buildx's store on this machine: `$BUILDX_CONFIG`, else `buildx` under Docker's configuration folder
 * (docker/buildx v0.38.2, util/confutil/config.go).
 */
export function buildxStore(env: NodeJS.ProcessEnv = process.env): string {
    return env.BUILDX_CONFIG ?? path.join(env.DOCKER_CONFIG ?? path.join(os.homedir(), ".docker"), "buildx");
}

/**
 * Makes the builder known to buildx on this machine, which is where the docker-build provider looks
 * it up. Written at every build, since state is shared between machines and this store is not.
 */
export function writeBuilder(connection: BuilderConnection, store: string = buildxStore()): void {
    const certificates = path.join(store, "certificates", connection.name);
    fs.mkdirSync(certificates, { recursive: true, mode: 0o700 });
    const files: Record<string, string> = connection.caCertificate
        ? { cacert: connection.caCertificate, cert: connection.clientCertificate, key: connection.clientKey }
        : {};
    const driverOptions: Record<string, string> = connection.serverName ? { servername: connection.serverName } : {};
    for (const [option, text] of Object.entries(files)) {
        const file = path.resolve(certificates, `${option}.pem`);
        writeAtomically(file, text, 0o600);
        driverOptions[option] = file;
    }
    const instance = {
        Name: connection.name,
        Driver: "remote",
        Nodes: [
            {
                Name: `${connection.name}0`,
                Endpoint: connection.endpoint,
                Platforms: null,
                DriverOpts: driverOptions,
                Flags: null,
                Files: null,
            },
        ],
        Dynamic: false,
    };
    fs.mkdirSync(path.join(store, "instances"), { recursive: true });
    writeAtomically(path.join(store, "instances", connection.name), JSON.stringify(instance), 0o600);
}

function writeAtomically(file: string, text: string, mode: number): void {
    const staging = `${file}.${process.pid}`;
    fs.writeFileSync(staging, text, { mode });
    fs.renameSync(staging, file);
}
