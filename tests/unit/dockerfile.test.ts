import { describe, expect, test } from "vitest";
import { sliceDockerfile } from "../../components/internal/dockerfile";
import { refusal } from "../support/refusal";

/** Text of a Dockerfile without the margin that it has in this file. */
function dockerfile(text: string): string {
    const lines = text.replace(/^\n/, "").replace(/\s*$/, "\n").split("\n");
    const margin = Math.min(...lines.filter((line) => line.trim() !== "").map((line) => /^ */.exec(line)![0].length));
    return lines.map((line) => line.slice(margin)).join("\n");
}

describe("a slice has the stages that the target reaches", () => {
    const text = dockerfile(`
        # Explains the file.

        ARG BASE_IMAGE=example.com/base:1
        ARG CUDA_ARCH_LIST=9.0a

        # What everything is built in.
        FROM \${BASE_IMAGE} AS base
        RUN true

        # A source.
        FROM scratch AS src-a
        ADD https://example.com/a.git#v1 /

        FROM scratch AS src-b
        ADD git@example.com:b.git /

        # Compiles a.
        # In two lines.
        FROM base AS compile-a
        ARG CUDA_ARCH_LIST
        COPY build/run-logged /usr/local/bin/
        RUN --mount=type=bind,from=src-a,target=/src make

        FROM scratch AS build-a
        COPY --from=compile-a /out /

        FROM base AS build-b
        COPY b.txt ./c.txt /app/
        RUN --mount=type=bind,source=scripts,target=/scripts --mount=type=cache,target=/cache /scripts/b

        FROM base AS final
        COPY --from=build-a --chmod=0644 /wheels /wheels
        RUN --mount=from=build-b,target=/b --mount=type=bind,target=/all cp -r /b /all
    `);

    test("in the file's order, with the global ARGs they name and without the comments above stages", () => {
        expect(sliceDockerfile(text, "build-a")).toEqual({
            args: ["BASE_IMAGE", "CUDA_ARCH_LIST"],
            text: dockerfile(`
                ARG BASE_IMAGE=example.com/base:1
                ARG CUDA_ARCH_LIST=9.0a
                FROM \${BASE_IMAGE} AS base
                RUN true

                FROM scratch AS src-a
                ADD https://example.com/a.git#v1 /

                FROM base AS compile-a
                ARG CUDA_ARCH_LIST
                COPY build/run-logged /usr/local/bin/
                RUN --mount=type=bind,from=src-a,target=/src make

                FROM scratch AS build-a
                COPY --from=compile-a /out /
            `),
            contextPaths: ["build/run-logged"],
            provided: {},
        });
    });

    test("and the files of the main context that those read, from COPY and from mounts", () => {
        expect(sliceDockerfile(text, "build-b").contextPaths).toEqual(["b.txt", "c.txt", "scripts"]);
    });

    test("with the whole context where a mount names no source, and with stages that are only mounted", () => {
        const slice = sliceDockerfile(text, "final");
        expect(slice.contextPaths).toEqual([".", "b.txt", "build/run-logged", "c.txt", "scripts"]);
        expect(slice.text).toContain("AS build-b");
        expect(slice.text).not.toContain("AS src-b");
    });

    test("with no file of the context where an address or a cache is all that is read", () => {
        expect(sliceDockerfile(text, "src-a").contextPaths).toEqual([]);
        expect(sliceDockerfile(text, "src-b").contextPaths).toEqual([]);
    });

    test("without a stage that a named context provides, nor what only that stage needs", () => {
        expect(sliceDockerfile(text, "final", ["build-b", "build-a", "never-used"])).toEqual({
            args: ["BASE_IMAGE"],
            text: dockerfile(`
                ARG BASE_IMAGE=example.com/base:1
                FROM \${BASE_IMAGE} AS base
                RUN true

                FROM base AS final
                COPY --from=build-a --chmod=0644 /wheels /wheels
                RUN --mount=from=build-b,target=/b --mount=type=bind,target=/all cp -r /b /all
            `),
            contextPaths: ["."],
            provided: { "build-a": ["wheels"], "build-b": ["."] },
        });
    });

    test("and stays the same when another stage's recipe or a comment above a stage is edited", () => {
        const edited = text
            .replace("COPY b.txt ./c.txt /app/", "COPY b.txt /app/")
            .replace("# Explains the file.", "# Explains it.")
            .replace("# In two lines.", "# In two lines of text.");
        expect(edited).not.toBe(text);
        expect(sliceDockerfile(edited, "build-a")).toEqual(sliceDockerfile(text, "build-a"));
        expect(sliceDockerfile(edited, "build-b")).not.toEqual(sliceDockerfile(text, "build-b"));
    });

    test("and refuses a target that does not exist with the ones that do", () => {
        expect(refusal(() => sliceDockerfile(text, "build-c"))).toEqual([
            "target: build-c: is no stage of the Dockerfile; accepted: base, src-a, src-b, compile-a, build-a, build-b, final",
        ]);
    });
});

test("names that no stage has are provided contexts, in order of use and once each, with the paths that are read there", () => {
    const text = dockerfile(`
        FROM scratch AS build
        COPY --from=wheelhouse / /wheelhouse
        COPY --from=locks / /locks
        COPY --from=wheelhouse /pip.conf /
        COPY --from=example.com/tools:1 /tool /
        RUN --mount=from=sources,source=b/c.txt,target=/c --mount=from=sources,target=/a,source=/a/ --mount=from=more,source=*.whl,target=/b true
    `);
    const { provided } = sliceDockerfile(text, "build", ["locks", "wheelhouse", "sources", "more"]);
    expect(Object.entries(provided)).toEqual([
        ["wheelhouse", [".", "pip.conf"]],
        ["locks", ["."]],
        ["sources", ["a", "b/c.txt"]],
        ["more", ["."]],
    ]);
});

test("a heredoc's lines are neither instructions nor comments of the next stage", () => {
    const text = dockerfile(`
        FROM scratch AS a
        RUN <<EOF
        FROM nowhere AS trap
        COPY trap /
        # not a comment of b
        EOF
        # b's
        FROM scratch AS b
        COPY b /
    `);
    expect(sliceDockerfile(text, "b")).toEqual({
        text: "FROM scratch AS b\nCOPY b /\n",
        contextPaths: ["b"],
        args: [],
        provided: {},
    });
    expect(sliceDockerfile(text, "a")).toEqual({
        text: "FROM scratch AS a\nRUN <<EOF\nFROM nowhere AS trap\nCOPY trap /\n# not a comment of b\nEOF\n",
        contextPaths: [],
        args: [],
        provided: {},
    });
});

test("keywords are read in either case, and a continued line as one", () => {
    const text = "from scratch as a\nrun true\nfrom a as b\ncopy \\\n    one \\\n    two \\\n    /\n";
    expect(sliceDockerfile(text, "b")).toEqual({ text, args: [], contextPaths: ["one", "two"], provided: {} });
});

test("--from is read wherever it stands among a COPY's flags", () => {
    const text = "FROM scratch AS a\nFROM scratch AS b\nCOPY --link --from=a --chmod=0644 /x /\n";
    expect(sliceDockerfile(text, "b")).toEqual({ text, args: [], contextPaths: [], provided: {} });
});

test("only a bind mount reads files, and only a flag of RUN is a mount", () => {
    const text = dockerfile(`
        FROM scratch AS a
        RUN --mount=type=cache,from=seed,target=/c --mount=type=tmpfs,target=/t --mount=type=secret,id=s --network=none true
        RUN echo --mount=type=bind,source=trap
        RUN --mount=target=/x,rw,src=./one/ --mount=type=bind,dst=/y,source=/two true
    `);
    expect(sliceDockerfile(text, "a").contextPaths).toEqual(["one", "two"]);
});

test("names of stages are compared as BuildKit does, whatever their case", () => {
    const text = "FROM scratch AS Base\nCOPY a /\nFROM base AS b\nCOPY --from=BASE /a /\n";
    expect(sliceDockerfile(text, "B")).toEqual({ text, args: [], contextPaths: ["a"], provided: {} });
});

test("a global ARG comes whole, over all its lines, with those that its default names", () => {
    const text = dockerfile(`
        ARG HOST=example.com
        ARG UNUSED=1
        ARG NAME=\
            base
        ARG BASE=\${HOST}/\${NAME}
        FROM \${BASE} AS b
    `);
    expect(sliceDockerfile(text, "b").text).toBe(text.replace("ARG UNUSED=1\n", ""));
});

test("a file that the Dockerfile itself holds is no file of the context", () => {
    const text = "FROM scratch AS a\nCOPY <<EOF /x\nhello\nEOF\nCOPY b /\n";
    expect(sliceDockerfile(text, "a")).toEqual({ text, args: [], contextPaths: ["b"], provided: {} });
});

test("declared arguments are read from every ARG, several in one too", () => {
    const text = "ARG A\nARG UNUSED\nFROM scratch AS a\nARG B=1 C\narg D=x\nRUN echo $A <<EOF\nARG E\nEOF\n";
    expect(sliceDockerfile(text, "a").args).toEqual(["A", "B", "C", "D"]);
});

describe("what cannot be sliced is refused in words", () => {
    test.each(["COPY --from=0 /a /", "COPY --chmod=1 --from=0 /a /", "RUN --mount=from=0,target=/a true"])("a stage by its index: %s", (step) => {
        expect(refusal(() => sliceDockerfile(`FROM scratch AS a\nFROM scratch AS b\n${step}\n`, "b"))).toEqual([
            "Dockerfile: --from=0: names a stage by its index, which a slice moves; accepted: a name, FROM ... AS NAME",
        ]);
    });

    test.each(["dir/$X", "dir/${X}", "a\\ b", '"a'])("a file by a variable, or quoted: %s", (source) => {
        expect(refusal(() => sliceDockerfile(`FROM scratch AS a\nCOPY ${source} /\n`, "a"))).toEqual([
            `Dockerfile: ${source.includes("\\") ? `${source} /` : source}: is a variable or quoted; accepted: the names of files and folders, or a pattern, so that a build's inputs are known`,
        ]);
    });

    test.each(["COPY --from=$X /a /", "RUN --mount=from=${X},target=/a true"])("a stage by a variable where BuildKit takes none: %s", (step) => {
        expect(refusal(() => sliceDockerfile(`ARG X=a\nFROM scratch AS a\nFROM scratch AS b\n${step}\n`, "b"))[0]).toMatch(
            /^Dockerfile: --from=\S+: is a variable, which BuildKit does not take there/,
        );
    });

    test("two stages of one name", () => {
        expect(refusal(() => sliceDockerfile("FROM a AS x\nFROM b AS X\n", "x"))).toEqual([
            "Dockerfile: x: is the name of two stages; accepted: a name for each, so that a slice knows which is meant",
        ]);
    });
});

describe("what is read of the context", () => {
    test.each<[string, string, string[]]>([
        ["a pattern", "COPY *.c src/?.h /x/", ["*.c", "src/?.h"]],
        ["a list in JSON", 'COPY ["a b", "c", "/x/"]', ["a b", "c"]],
        ["a list in JSON after a flag", 'COPY --chmod=0644 ["a", "/x"]', ["a"]],
        ["a path from above, which BuildKit takes from the root", "COPY ../x /a/../y /z/", ["x", "y"]],
        ["files beside a here-document", "COPY <<EOF b /x/\nhello\nEOF", ["b"]],
        ["a mount from nowhere else", "RUN --mount=type=bind,from=,source=a,target=/a true", ["a"]],
        ["a quoted mount", 'RUN --mount="type=bind,source=a,target=/a" true', ["a"]],
        ["what a stage leaves to those after it", "ONBUILD COPY a /", ["a"]],
    ])("%s", (_, step, paths) => {
        expect(sliceDockerfile(`FROM scratch AS a\n${step}\n`, "a").contextPaths).toEqual(paths);
    });
});

describe("a FROM with an argument in it", () => {
    // After vLLM's Dockerfile.rocm, where the stage is chosen by REMOTE_VLLM.
    const text = dockerfile(`
        ARG REMOTE_VLLM=0
        FROM scratch AS fetch_0
        ONBUILD COPY ./ vllm/
        FROM scratch AS fetch_1
        COPY one /
        FROM fetch_\${REMOTE_VLLM} AS fetch
        FROM fetch AS final
    `);
    const stagesOf = (...args: Parameters<typeof sliceDockerfile>) =>
        [...sliceDockerfile(...args).text.matchAll(/^FROM \S+ AS (\S+)$/gm)].map(([, name]) => name);

    test("names the stage of its default, or of what is given", () => {
        expect(stagesOf(text, "final")).toEqual(["fetch_0", "fetch", "final"]);
        expect(stagesOf(text, "final", [], { REMOTE_VLLM: "1" })).toEqual(["fetch_1", "fetch", "final"]);
        expect(sliceDockerfile(text, "final").contextPaths).toEqual(["."]);
    });

    test("keeps every stage that it may name while what is given is not known", () => {
        expect(stagesOf(text, "final", [], { REMOTE_VLLM: undefined })).toEqual(["fetch_0", "fetch_1", "fetch", "final"]);
        expect(stagesOf("FROM a AS build-amd64\nFROM a AS build-arm64\nFROM a AS other\nFROM build-$TARGETARCH AS final\n", "final")).toEqual([
            "build-amd64",
            "build-arm64",
            "final",
        ]);
    });

    test("is an image where it is one argument alone, but where that names a stage", () => {
        const one = "ARG BASE=example.com/base:1\nFROM a AS prod\nFROM ${BASE} AS final\n";
        expect(stagesOf(one, "final")).toEqual(["final"]);
        expect(stagesOf(one, "final", [], { BASE: undefined })).toEqual(["final"]);
        expect(stagesOf(one, "final", [], { BASE: "prod" })).toEqual(["prod", "final"]);
        expect(stagesOf(one.replace("example.com/base:1", "${KIND:-prod}"), "final")).toEqual(["prod", "final"]);
    });

    test("may name a named context", () => {
        expect(sliceDockerfile("FROM src-${TARGETARCH} AS a\n", "a", ["src-arm64", "other"]).provided).toEqual({ "src-arm64": ["."] });
    });
});

test("a stage that a cache starts with is part of the slice", () => {
    const text = "FROM scratch AS seed\nFROM scratch AS a\nRUN --mount=type=cache,from=seed,target=/c true\n";
    expect(sliceDockerfile(text, "a").text).toBe(text);
});

test("directives stay above everything, since they decide how the rest is read", () => {
    const text = dockerfile(`
        # syntax=docker/dockerfile:1.7-labs
        # escape=\`
        # A comment.
        ARG UNUSED=1
        FROM scratch AS a
        COPY one \`
            two /
        FROM scratch AS b
    `);
    const slice = sliceDockerfile(text, "a");
    expect(slice.text).toBe("# syntax=docker/dockerfile:1.7-labs\n# escape=`\nFROM scratch AS a\nCOPY one `\n    two /\n");
    expect(slice.contextPaths).toEqual(["one", "two"]);
    expect(sliceDockerfile(text, "b").text).toBe("# syntax=docker/dockerfile:1.7-labs\n# escape=`\nFROM scratch AS b\n");
});
