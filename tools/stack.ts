/** What pulumi.ts reads off a command line of Pulumi's before passing it on. */

/** These take --config-file; `config` does with all its subcommands. */
const WITH_CONFIG_FILE = new Set(["up", "update", "preview", "pre", "destroy", "dn", "down", "refresh", "import", "config", "watch"]);

export const commandOf = (args: readonly string[]): string | undefined => args.find((arg) => !arg.startsWith("-"));

export function stackOf(args: readonly string[], environment: NodeJS.ProcessEnv): string | undefined {
    for (const [index, arg] of args.entries()) {
        if (arg === "--") {
            break;
        }
        if (arg === "-s" || arg === "--stack") {
            return args[index + 1];
        }
        const joined = /^(?:--stack=|-s=?)(.+)$/.exec(arg);
        if (joined !== null) {
            return joined[1];
        }
    }
    return environment.PULUMI_STACK;
}

/** Adds the sandbox's own stack file, which lies in its folder because endpoints and secrets are that sandbox's. */
export function withConfigFile(args: readonly string[], stackConfig: string): string[] {
    const command = commandOf(args);
    if (command === undefined || !WITH_CONFIG_FILE.has(command) || args.some((arg) => arg === "--config-file" || arg.startsWith("--config-file="))) {
        return [...args];
    }
    const at = args.indexOf(command) + 1;
    return [...args.slice(0, at), "--config-file", stackConfig, ...args.slice(at)];
}
