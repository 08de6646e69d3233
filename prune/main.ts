import { execFile, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { parseArgs, promisify } from "node:util";
import { deleteManifest, listTags, type RegistryCredentials, tagDigest } from "../components/image/registryClient";
import { registryHost, releaseRepository } from "../components/image/reference";
import { main, Problem } from "../tools/report";
import { ensureTools, findTool, pulumiEnvironment, pulumiTools, sandboxDirectory, sandboxState } from "../tools/toolchain";
import { prunable, type StateResource, type Tagged } from "./prunable";

const CHECKOUT = path.resolve(__dirname, "..");

interface Section {
    objectValue?: Record<string, string>;
    value?: string;
}

/*
 * `npm run prune [-- --stack NAME] [--yes]`: lists the stage images, build caches and copied contexts that nothing in the state
 * of any stack of the backend needs, and with --yes removes them. Releases are never touched.
 */
main(async () => {
    const { values } = parseArgs({ options: { stack: { type: "string", default: "sandbox" }, yes: { type: "boolean", default: false } } });
    const directory = values.stack === "sandbox" ? sandboxDirectory() : undefined;
    if (directory !== undefined && !fs.existsSync(sandboxState(directory).stackConfig)) {
        throw new Problem("--stack: sandbox: does not exist yet; accepted: a stack that was updated; npm run sandbox");
    }
    await ensureTools(pulumiTools);
    const env = await pulumiEnvironment(directory);
    const certificates = env.NODE_EXTRA_CA_CERTS;
    if (certificates !== undefined && certificates !== process.env.NODE_EXTRA_CA_CERTS) {
        // Node.js reads its authorities once, when it starts.
        return (
            spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
                stdio: "inherit",
                env: { ...process.env, NODE_EXTRA_CA_CERTS: certificates },
            }).status ?? 1
        );
    }
    const ask = async <T>(...args: string[]): Promise<T> => {
        const { stdout } = await promisify(execFile)(findTool("pulumi")?.path ?? "pulumi", args, { cwd: CHECKOUT, env, maxBuffer: 2 ** 28 });
        return JSON.parse(stdout) as T;
    };
    const stateOf = async (stack: string): Promise<StateResource[]> =>
        (await ask<{ deployment: { resources?: StateResource[] } }>("stack", "export", "--stack", stack)).deployment.resources ?? [];
    const configFile = directory === undefined ? [] : ["--config-file", sandboxState(directory).stackConfig];
    const config = await ask<Record<string, Section>>("config", "--json", "--show-secrets", "--stack", values.stack, ...configFile);
    // They may push to one repository, and a stage that two of them build alike is one digest.
    const stacks = await ask<{ name: string }[]>("stack", "ls", "--all", "--json");
    const resources = (await Promise.all(stacks.map(({ name }) => stateOf(name)))).flat();
    const { address = "", username } = config["gh200-vllm:registry"]?.objectValue ?? {};
    const imageTag = config["gh200-vllm:image"]?.objectValue?.imageTag ?? "gh200-vllm-cmm";
    const repository = `${releaseRepository({ registry: address, imageTag, vllmVersion: "", imageSuffix: "" })}-stages`;
    const repositories = [repository, `${repository}-cache`];
    const credentials = username === undefined ? undefined : { username, password: config["gh200-vllm:registryPassword"]?.value ?? "" };
    const tags = (await Promise.all(repositories.map((of) => tagsWithDigests(of, credentials)))).flat();
    const contexts = path.join(CHECKOUT, ".gh200", "contexts");
    const found = prunable(resources, tags, fs.existsSync(contexts) ? fs.readdirSync(contexts) : []);
    if (found.digests.length + found.contexts.length === 0) {
        console.log(`nothing to remove: ${tags.length} tags of ${repositories.join(" and ")} and every copied context are in use`);
        return 0;
    }
    found.digests.forEach(({ repository: of, digest, tags: names }) => console.log(`${of}@${digest}  ${names.join(", ")}`));
    found.contexts.forEach((name) => console.log(path.join(".gh200", "contexts", name)));
    if (!values.yes) {
        console.log(
            `nothing is removed: npm run prune -- --stack ${values.stack} --yes. Kept is what the state of a stack of this backend needs (${stacks.length}); stacks of another backend are not known here`,
        );
        return 0;
    }
    for (const { repository: of, digest } of found.digests) {
        await deleteManifest(`${of}@${digest}`, credentials);
    }
    found.contexts.forEach((name) => fs.rmSync(path.join(contexts, name), { recursive: true }));
    console.log(
        `removed ${found.digests.length} images and caches of ${registryHost(repository)} and ${found.contexts.length} copied contexts; the registry frees their layers at its next garbage collection`,
    );
    return 0;
});

async function tagsWithDigests(repository: string, credentials: RegistryCredentials | undefined): Promise<Tagged[]> {
    const tags = await listTags(repository, credentials);
    return Promise.all(tags.map(async (tag) => ({ repository, tag, digest: await tagDigest(`${repository}:${tag}`, credentials) })));
}
