import * as fs from "node:fs";
import * as yaml from "yaml";
import { type Problem, problemLine } from "../components/internal/errors";
import { main, Problem as Refusal } from "../tools/report";

/** What of a stack file says who encrypts its secrets: a key service by its address, a passphrase by its salt, the Pulumi service by neither. */
interface StackFile {
    secretsprovider?: string;
    encryptionsalt?: string;
}

/**
 * What is missing to read the stack's state and secrets here; undefined where nothing is. A backend of one's own (S3, Google
 * Cloud Storage, Azure, a folder) and a key service (AWS KMS and its like, Vault) take the credentials of their own SDKs, which this cannot judge.
 */
export function missingAccess(stackFile: string, environment: NodeJS.ProcessEnv): Problem | undefined {
    const { secretsprovider = "", encryptionsalt } = (yaml.parse(stackFile) ?? {}) as StackFile;
    const given = (name: string) => (environment[name] ?? "") !== "";
    if (given("PULUMI_CONFIG_PASSPHRASE") || given("PULUMI_CONFIG_PASSPHRASE_FILE")) {
        return undefined;
    }
    const backend = environment.PULUMI_BACKEND_URL ?? "";
    const service = /^https?:/.test(backend) || (backend === "" && given("PULUMI_ACCESS_TOKEN"));
    if (!service && backend === "") {
        return {
            path: "PULUMI_BACKEND_URL",
            wrong: "is unset, so the stack's state is not found",
            accepted: "s3://BUCKET, gs://BUCKET, azblob://CONTAINER, file://FOLDER, or PULUMI_ACCESS_TOKEN of Pulumi Cloud",
        };
    }
    if (service && !given("PULUMI_ACCESS_TOKEN")) {
        return { path: "PULUMI_ACCESS_TOKEN", wrong: "is unset, and the state lies in a Pulumi service", accepted: `a token of ${backend}` };
    }
    const keyService = secretsprovider.includes("://");
    const ofService = service && encryptionsalt === undefined && secretsprovider !== "passphrase";
    return keyService || ofService
        ? undefined
        : {
              path: "PULUMI_CONFIG_PASSPHRASE",
              wrong: "is unset, and the stack's secrets are encrypted with a passphrase",
              accepted: "that passphrase, or a stack of a key service",
              fix: "pulumi stack change-secrets-provider",
          };
}

/*
 * `tsx ci/access.ts STACK_FILE`: says `state` where a preview can be compared with the stack, else `temporary`, and why. With --required
 * the latter is a failure.
 */
if (require.main === module) {
    main(async () => {
        const [file = "", required] = process.argv.slice(2);
        const missing = missingAccess(fs.readFileSync(file, "utf8"), process.env);
        if (missing !== undefined && required === "--required") {
            throw new Refusal(problemLine(missing));
        }
        if (missing !== undefined) {
            console.error(`not compared with what is deployed: ${problemLine(missing)}`);
        }
        console.log(missing === undefined ? "state" : "temporary");
        return 0;
    });
}
