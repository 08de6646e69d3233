import * as fs from "node:fs";
import * as path from "node:path";
import { cgroupOf } from "./cgroup";
import { grpcHealth } from "./health";
import { type Layout, writeFile } from "./layout";
import { type Certificate, ensureAuthority, ensureCertificate } from "./pki";
import { portOf } from "./ports";
import type { Daemon } from "./processes";
import type { Registry } from "./registry";

export interface Builder {
    readonly endpoint: string;
    readonly serverName: string;
    readonly client: Certificate;
    readonly daemon: Daemon;
}

// What the builder may keep of old build steps before it removes the oldest.
const CACHE_LIMIT = "20GB";

/** BuildKit on loopback with mutual TLS: whoever holds the client key may build, nobody else on the machine. */
export async function prepareBuilder(layout: Layout, binary: string, registry: Registry): Promise<Builder> {
    const port = await portOf(layout, "buildkit");
    await ensureAuthority(layout, "builder");
    const server = await ensureCertificate(layout, {
        authority: "builder",
        name: "builder",
        usage: "server",
        commonName: "buildkitd",
        names: ["DNS:localhost", "IP:127.0.0.1"],
    });
    const client = await ensureCertificate(layout, { authority: "builder", name: "builder-client", usage: "client", commonName: "gh200-vllm" });

    const config = path.join(layout.buildkit, "buildkitd.toml");
    const quote = JSON.stringify;
    writeFile(
        config,
        `root = ${quote(path.join(layout.buildkit, "root"))}

[grpc]
  address = [${quote(`tcp://127.0.0.1:${port}`)}]
  [grpc.tls]
    cert = ${quote(server.cert)}
    key = ${quote(server.key)}
    ca = ${quote(server.ca)}

[worker.oci]
  snapshotter = "overlayfs"
  # One step at a time, whoever asks: the rule «one build at a time» holds at the builder itself.
  max-parallelism = 1
  # A cgroup of the sandbox's own, removed with it.
  defaultCgroupParent = ${quote(`${cgroupOf(layout)}/buildkit`)}
  [[worker.oci.gcpolicy]]
    all = true
    maxUsedSpace = ${quote(CACHE_LIMIT)}

[worker.containerd]
  enabled = false

[registry.${quote(registry.address)}]
  # Unset, BuildKit takes a registry on localhost for one without TLS.
  http = false
  ca = [${quote(registry.caFile)}]
`,
    );

    return {
        endpoint: `tcp://127.0.0.1:${port}`,
        serverName: "localhost",
        client,
        daemon: {
            name: "buildkitd",
            command: [binary, "--config", config],
            env: proxyEnvironment(),
            files: [config, server.cert, registry.caFile],
            probe: () =>
                grpcHealth({
                    port,
                    servername: "localhost",
                    ca: fs.readFileSync(client.ca),
                    cert: fs.readFileSync(client.cert),
                    key: fs.readFileSync(client.key),
                }),
            timeoutSeconds: 30,
        },
    };
}

/** The builder fetches sources from the network; the other daemons talk to loopback only. */
function proxyEnvironment(): NodeJS.ProcessEnv {
    const wanted = /^(https?_proxy|no_proxy|ssl_cert_file|ssl_cert_dir)$/i;
    return Object.fromEntries(Object.entries(process.env).filter(([name]) => wanted.test(name)));
}
