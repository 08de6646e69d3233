import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { repositoryRoot } from "./stackFile";

export interface Block {
    page: string;
    /** The word after the fence; empty for an indented block. */
    language: string;
    lines: string[];
}

export const read = (file: string): string => fs.readFileSync(path.join(repositoryRoot, file), "utf8");

/** Every file that git has or would have, by its path from the root. */
export const repositoryFiles: readonly string[] = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
    cwd: repositoryRoot,
    encoding: "utf8",
})
    .split("\n")
    .filter((file) => file !== "" && fs.existsSync(path.join(repositoryRoot, file)));

export const pages = repositoryFiles.filter((file) => file.endsWith(".md"));

/** Fenced and indented blocks, without the indentation. */
export function blocks(page: string): Block[] {
    const found: Block[] = [];
    let open: Block | undefined;
    let indented: Block | undefined;
    let before = "";
    for (const line of read(page).split("\n")) {
        const fence = /^ *```(\w*)/.exec(line);
        if (fence !== null) {
            open = open === undefined ? { page, language: fence[1] ?? "", lines: [] } : void found.push(open);
            indented = undefined;
        } else if (open !== undefined) {
            open.lines.push(line);
        } else if (line.startsWith("    ") && (indented !== undefined || before === "")) {
            if (indented === undefined) {
                indented = { page, language: "", lines: [] };
                found.push(indented);
            }
            indented.lines.push(line.slice(4));
        } else if (line !== "") {
            indented = undefined;
        }
        before = line;
    }
    return found;
}

/** What stands between backticks outside of blocks. */
export function codeSpans(page: string): string[] {
    const prose = read(page).replace(/^ *```[^]*?^ *```$/gm, "");
    return [...prose.matchAll(/`([^`\n]+)`/g)].map((match) => match[1] ?? "");
}

/** The anchors of a page's headings, as GitHub and Gitea make them. */
export function anchors(page: string): string[] {
    const text = read(page).replace(/^ *```[^]*?^ *```$/gm, "");
    const seen = new Map<string, number>();
    return [...text.matchAll(/^#{1,6} (.+)$/gm)].map((match) => {
        const slug = (match[1] ?? "")
            .toLowerCase()
            .replace(/[^\p{L}\p{N}\s_-]/gu, "")
            .replaceAll(" ", "-");
        const count = seen.get(slug) ?? 0;
        seen.set(slug, count + 1);
        return count === 0 ? slug : `${slug}-${count}`;
    });
}

/** Command lines of a block: comments at the end left out, lines that go on joined. */
export function commandLines({ lines }: Block): string[] {
    return lines
        .join("\n")
        .replace(/\s*\\\n\s*/g, " ")
        .split("\n")
        .map((line) => line.replace(/(^|\s)#.*$/, "").trimEnd())
        .filter((line) => line !== "");
}
