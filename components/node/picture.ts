import { gib, type MemoryTerm } from "./describe";
import type { MemoryPlan } from "./memory";

const width = 960;
const margin = 24;
const barWidth = width - 2 * margin;
const barHeight = 56;
const rowHeight = 22;

/** Who has a piece: blue is vLLM's, orange another's on this node, grey nobody's, hatched out of reach. */
const fills: Record<string, string> = {
    "weights and KV cache": "#2563eb",
    overflow: "#60a5fa",
    "overflow beyond Linux": "#93c5fd",
    "host processes": "#1e40af",
    "/dev/shm": "#0e7490",
    pinned: "#155e75",
    headroom: "#a5b4fc",
    LMCache: "#ea580c",
    builder: "#d97706",
    driver: "#4b5563",
    "in use": "#6b7280",
    "CUDA context": "#1d4ed8",
    "HBM reserve": "#d1d5db",
    "huge pages": "#a16207",
    system: "#9ca3af",
    "not promised": "#f3f4f6",
    "hidden by EGM": "url(#hidden)",
    firmware: "#4b5563",
};

/** The memory plan as an SVG: a bar for each side, each drawn to its own scale, and every term with its size. */
export function memoryPicture(terms: readonly MemoryTerm[], plan: MemoryPlan): string {
    const sides = (["hbm", "lpddr"] as const).map((where) => terms.filter((term) => term.where === where));
    const body: string[] = [];
    let y = 58;
    for (const [index, side] of sides.entries()) {
        const total = side.reduce((sum, { mib }) => sum + mib, 0);
        const title = index === 0 ? `HBM ${gib(total)}, on the GPU` : `LPDDR5X ${gib(total)}, on the CPU, over NVLink-C2C`;
        body.push(text(margin, y, title, 'font-weight="600"'), ...bar(side, total, y + 10));
        y += barHeight + 20;
        for (const term of side) {
            y += rowHeight;
            body.push(
                `<rect x="${margin}" y="${y - 12}" width="14" height="14" fill="${fill(term)}" stroke="#374151" stroke-width="0.5"/>`,
                text(margin + 22, y, term.name),
                text(margin + 290, y, gib(term.mib), 'text-anchor="end"'),
                text(margin + 310, y, term.meaning, 'fill="#6b7280"'),
            );
        }
        y += 40;
    }
    const footer = [
        `pod: request = limit = ${gib(plan.podLimitMiB)}`,
        `Linux and the kubelet count ${gib(plan.view.totalMiB)}, of which ${gib(plan.view.lpddrMiB)} is LPDDR`,
        ...(plan.unprovenMiB > 0 ? [`${gib(plan.unprovenMiB)} of the declared managed memory is unproven and not promised`] : []),
    ];
    body.push(...footer.map((line, index) => text(margin, y + index * rowHeight, line)));
    const height = y + footer.length * rowHeight;
    return [
        `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Memory plan of a GH200, profile ${plan.profile}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="14">`,
        '<defs><pattern id="hidden" width="8" height="8" patternUnits="userSpaceOnUse"><rect width="8" height="8" fill="#fef2f2"/><path d="M0 8 L8 0" stroke="#b91c1c" stroke-width="1.2"/></pattern></defs>',
        `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
        text(margin, 28, `GH200, memory profile ${plan.profile}`, 'font-size="18" font-weight="700"'),
        ...body,
        "</svg>",
        "",
    ].join("\n");
}

function bar(side: readonly MemoryTerm[], total: number, y: number): string[] {
    let x = margin;
    return side.flatMap((term) => {
        const share = (term.mib / total) * barWidth;
        const piece = `<rect x="${round(x)}" y="${y}" width="${round(share)}" height="${barHeight}" fill="${fill(term)}" stroke="#374151" stroke-width="0.5"/>`;
        const label = `${term.name} ${gib(term.mib)}`;
        // About 8 px a letter; what is too narrow for its label has it in the list alone.
        const dark = [
            "weights and KV cache",
            "host processes",
            "/dev/shm",
            "pinned",
            "driver",
            "in use",
            "CUDA context",
            "firmware",
            "LMCache",
            "builder",
        ].includes(term.name);
        const inside =
            share > label.length * 8 + 8
                ? [
                      text(
                          round(x + share / 2),
                          y + barHeight / 2 + 5,
                          label,
                          `text-anchor="middle" fill="${dark ? "#ffffff" : "#111827"}"${term.name === "hidden by EGM" ? ' stroke="#fef2f2" stroke-width="4" paint-order="stroke"' : ""}`,
                      ),
                  ]
                : [];
        x += share;
        return [piece, ...inside];
    });
}

function fill(term: MemoryTerm): string {
    return fills[term.name] ?? "#ffffff";
}

function text(x: number, y: number, content: string, more = ""): string {
    const escaped = content.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
    return `<text x="${x}" y="${y}"${/fill="/.test(more) ? "" : ' fill="#111827"'}${more === "" ? "" : ` ${more}`}>${escaped}</text>`;
}

function round(value: number): number {
    return Math.round(value * 100) / 100;
}
