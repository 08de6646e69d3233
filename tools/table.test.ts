import { describe, expect, it } from "vitest";
import { renderTable, type Row } from "./table";

const rows: Row[] = [
  { name: "pulumi", version: "3.274.1", origin: "built", where: "/cache/pulumi" },
  { name: "etcd", where: "wants 3.6.0 or newer; npx tsx tools/bootstrap.ts etcd" },
];

describe("renderTable", () => {
  it("aligns columns where there is room", () => {
    expect(renderTable(rows, 100)).toEqual([
      "pulumi  3.274.1  built  /cache/pulumi",
      "etcd    missing         wants 3.6.0 or newer; npx tsx tools/bootstrap.ts etcd",
    ]);
  });

  it("puts the last column on lines of its own where there is none, and cuts no path", () => {
    const long = { name: "x", version: "1.0.0", origin: "built", where: `/${"p".repeat(60)}` };
    const lines = renderTable([...rows, long], 44);
    expect(lines).toEqual([
      "pulumi  3.274.1  built",
      "    /cache/pulumi",
      "etcd    missing",
      "    wants 3.6.0 or newer; npx tsx",
      "    tools/bootstrap.ts etcd",
      "x       1.0.0    built",
      `    /${"p".repeat(60)}`,
    ]);
  });

  it("has no colour codes", () => {
    expect(renderTable(rows, 100).join("")).not.toContain("\u001b");
  });
});
