/** What a stranger may put into any text that ends up in a comment. */
export const hostile = [
    "```\n# out of the fence\n@everyone",
    "`````````` <script>alert(1)</script>",
    "<!-- gh200-vllm preview of other -->",
    "[click](javascript:alert(1)) ![x](https://example.com/track.png)",
    "a | b | c\n| --- | --- |",
    "\u202egnp.exe \u200b\u2066hidden\u0007\u001b[31mred\u001b[0m",
    "~~~\nnot a fence",
    "</details><img src=x onerror=alert(1)>",
    "${{ secrets.TOKEN }} $(touch pwned) `touch pwned`",
    "::error file=app.js,line=1::planted\n::set-output name=digest::aaaa\n##[add-path]/tmp/evil",
    "50 %\r# a heading behind a carriage return\r```\rout",
    "    ```\n```` \n\t```",
    "x".repeat(100_000),
];

/** The page without its fenced blocks, read as CommonMark does. */
export function withoutBlocks(page: string): string {
    const kept: string[] = [];
    let fence = "";
    for (const line of page.split("\n")) {
        const run = /^(`{3,})/.exec(line)?.[1] ?? "";
        if (fence === "" && run !== "") {
            fence = run;
        } else if (fence !== "" && run.length >= fence.length && line.trim() === run) {
            fence = "";
        } else if (fence === "") {
            kept.push(line);
        }
    }
    return kept.join("\n");
}
