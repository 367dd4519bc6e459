/** The little of a syntax tree (ESTree) that the rewriter needs. */
import { stripTypeScriptTypes } from 'node:module';
import { parse } from 'acorn';

/** A syntax node; `start` and `end` are offsets in the source. */
export interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  // the tree's shapes are the parser's; each use below looks at `type` first
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly [key: string]: any;
}

/** One source file, parsed. */
export interface Source {
  readonly path: string;
  /** Plain JavaScript: types replaced by spaces, so that offsets and lines are those of the file. */
  readonly code: string;
  readonly ast: Node;
  /** Offset of each line's start. */
  readonly lines: readonly number[];
}

/** Strips the types of `text` and parses it. */
export function parseSource(path: string, text: string): Source {
  const code = stripTypeScriptTypes(text);
  const ast = parse(code, { ecmaVersion: 'latest', sourceType: 'module' }) as unknown as Node;
  const lines = [0];
  for (let i = 0; i < code.length; i++) if (code.charCodeAt(i) === 10) lines.push(i + 1);
  return { path, code, ast, lines };
}

/** Line, from 1, of an offset. */
export function lineOf(source: Source, offset: number): number {
  let low = 0;
  let high = source.lines.length;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (source.lines[middle] <= offset) low = middle;
    else high = middle;
  }
  return low + 1;
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && typeof (value as Node).type === 'string';
}

/** The children of a node, in the order of the source. */
export function childrenOf(node: Node): Node[] {
  // `{ a }` and `{ a = 1 }`: key and value lie on the same characters
  if (node.type === 'Property' && node.shorthand) return [node.value as Node];
  const out: Node[] = [];
  for (const key in node) {
    const value: unknown = node[key];
    if (isNode(value)) out.push(value);
    else if (Array.isArray(value)) for (const item of value) if (isNode(item)) out.push(item);
  }
  return out.sort((x, y) => x.start - y.start);
}

export function isFunction(node: Node): boolean {
  return (
    node.type === 'FunctionDeclaration' ||
    node.type === 'FunctionExpression' ||
    node.type === 'ArrowFunctionExpression'
  );
}

/** Calls `visit` for `node` and all below it; a `false` answer leaves out what is below. */
export function walk(node: Node, visit: (node: Node, parents: readonly Node[]) => boolean | void): void {
  const parents: Node[] = [];
  const step = (n: Node): void => {
    if (visit(n, parents) === false) return;
    parents.push(n);
    for (const child of childrenOf(n)) step(child);
    parents.pop();
  };
  step(node);
}

/** As `walk`, without what is inside functions nested in `node`. */
export function walkOwn(node: Node, visit: (node: Node) => boolean | void): void {
  walk(node, (n) => {
    if (n !== node && isFunction(n)) return false;
    return visit(n);
  });
}
