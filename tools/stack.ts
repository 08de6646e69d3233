/** What pulumi.ts reads off a command line of Pulumi's before passing it on. */

/** These take --config-file; `config` does with all its subcommands. */
const WITH_CONFIG_FILE = new Set(["up", "update", "preview", "pre", "destroy", "dn", "down", "refresh", "import", "config", "watch"]);

/** Pulumi has two names for it. */
const PREVIEW = new Set(["preview", "pre"]);

export const commandOf = (args: readonly string[]): string | undefined => args.find((arg) => !arg.startsWith("-"));

export function stackOf(args: readonly string[], environment: NodeJS.ProcessEnv): string | undefined {
    return valueOf(args, /^(?:--stack|-s)$/, /^(?:--stack=|-s=?)(.+)$/) ?? environment.PULUMI_STACK;
}

export const configFileOf = (args: readonly string[]): string | undefined => valueOf(args, /^--config-file$/, /^--config-file=(.+)$/);

/** What a flag says, as the next word or in its own. */
function valueOf(args: readonly string[], apart: RegExp, joined: RegExp): string | undefined {
    const flags = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
    const at = flags.findIndex((arg) => apart.test(arg) || joined.test(arg));
    return at < 0 ? undefined : (joined.exec(flags[at]!)?.[1] ?? flags[at + 1]);
}

export const isPreview = (args: readonly string[]): boolean => PREVIEW.has(commandOf(args) ?? "");

/** Adds a stack file that lies elsewhere, because what is in it is of one sandbox or one run; not where the user names one. */
export function withConfigFile(args: readonly string[], stackConfig: string): string[] {
    const command = commandOf(args);
    if (command === undefined || !WITH_CONFIG_FILE.has(command) || configFileOf(args) !== undefined) {
        return [...args];
    }
    const at = args.indexOf(command) + 1;
    return [...args.slice(0, at), "--config-file", stackConfig, ...args.slice(at)];
}
