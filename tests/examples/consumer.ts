import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { link } from "../../tools/cache";
import { entryOf } from "../../tools/catalogue";
import { pluginFolder } from "../../tools/locate";
import { ensureTools, findTool, pulumiTools, type ToolName } from "../../tools/toolchain";
import type { Answer } from "../live/programCopy";
import { repositoryRoot } from "../support/stackFile";

/** What a person is told to do: write a file, or run commands. */
interface Step {
    file: string | undefined;
    text: string;
}

/** What a README of ours says, up to its first preview. */
export function upToPreview(readme: string, section = ""): string {
    const text = fs.readFileSync(path.join(repositoryRoot, readme), "utf8");
    const told = /^[^]*?^ {4}pulumi preview\n/m.exec(text.slice(section === "" ? 0 : text.indexOf(`\n## ${section}\n`)));
    if (told === null) {
        throw new Error(`${readme} ${section}: tells of no preview`);
    }
    return told[0];
}

/** Its indented blocks. One after a line such as "`index.ts`:" is that file, any other is a list of commands. */
function stepsOf(text: string): Step[] {
    return [...text.matchAll(/^(.*)\n\n((?: {4}.*\n|\n(?= {4}))+)/gm)].map(([, before = "", block = ""]) => ({
        file: /^`(\S+)`:$/.exec(before)?.[1],
        text: block.replaceAll(/^ {4}/gm, ""),
    }));
}

/** Each plug-in under its exact name: `pulumi package add` looks for those of the package's SDKs, and for no stand-in beside them. */
function pulumiHome(home: string): string {
    for (const name of pulumiTools) {
        const { plugin, version } = entryOf(name);
        const tool = findTool(name);
        if (plugin !== undefined && tool !== undefined) {
            link(tool.path, path.join(pluginFolder(home, plugin, version), name));
        }
    }
    return home;
}

/** A person who has the archive and a folder, with the language hosts of their languages beside Pulumi. */
export class Consumer {
    private constructor(
        readonly folder: string,
        readonly env: NodeJS.ProcessEnv,
    ) {}

    static async of(folder: string, env: NodeJS.ProcessEnv, ...hosts: ToolName[]): Promise<Consumer> {
        const tools = await ensureTools(["pulumi", ...hosts]);
        const folders = [...tools.values()].map((tool) => path.dirname(tool.path));
        const state = `${folder}-state`;
        fs.mkdirSync(folder, { recursive: true });
        fs.mkdirSync(state);
        const own = {
            PATH: [...folders, env.PATH].join(path.delimiter),
            PULUMI_HOME: pulumiHome(`${folder}-home`),
            PULUMI_BACKEND_URL: `file://${state}`,
            NO_COLOR: "1",
        };
        return new Consumer(folder, { ...env, ...own });
    }

    /** Does what a README says, with these words in place of its own; the answer of its last commands, or of those that failed. */
    follow(readme: string, words: Record<string, string>): Answer {
        let answer: Answer = { status: null, output: "" };
        for (const { file, text } of stepsOf(readme)) {
            const put = Object.entries(words).reduce((said, [word, by]) => said.replaceAll(word, by), text);
            if (file === undefined) {
                answer = this.shell(put);
                if (answer.status !== 0) {
                    return answer;
                }
            } else {
                fs.writeFileSync(path.join(this.folder, file), put);
            }
        }
        return answer;
    }

    /** Commands as a person types them; the first that fails ends them. */
    shell(commands: string): Answer {
        const { status, stdout, stderr } = spawnSync("bash", ["-e", "-c", commands], { cwd: this.folder, env: this.env, encoding: "utf8", maxBuffer: 2 ** 28 });
        return { status, output: stdout + stderr };
    }

    pulumi(...args: string[]): Answer {
        const { status, stdout, stderr } = spawnSync(findTool("pulumi")?.path ?? "pulumi", args, {
            cwd: this.folder,
            env: this.env,
            encoding: "utf8",
            maxBuffer: 2 ** 28,
        });
        return { status, output: stdout + stderr };
    }

    edit(file: string, from: string, to: string): void {
        const full = path.join(this.folder, file);
        const before = fs.readFileSync(full, "utf8");
        if (!before.includes(from)) {
            throw new Error(`${file}: has no ${JSON.stringify(from)}`);
        }
        fs.writeFileSync(full, before.replaceAll(from, to));
    }
}
