/**
 * Which functions have steps. A function has steps when it makes an operation of the seam, or calls by name
 * something that has; a name stands for all definitions of that name, so the answer may be yes too often
 * (the call is then looked at when it has returned), never too seldom.
 */
import { childrenOf, isFunction, type Node, type Source, walk } from './ast.ts';
import {
  ARRAY_METHODS,
  AWAIT_FREE_FILES,
  BUILTIN_NAMES,
  CALLBACK_NAMES,
  type Exemption,
  EXEMPTIONS,
  MODEL_STEPS,
  SEAM_STEPS,
  STEPLESS_FILES,
  STEPLESS_RECEIVERS,
  STRUCT_RECEIVERS,
} from './config.ts';

export interface FunctionInfo {
  readonly node: Node;
  readonly source: Source;
  /** As it is called: `f:name`, `m:name`, `p:path#name` for private members, or '' when it has none. */
  readonly key: string;
  readonly name: string;
  readonly kind: 'function' | 'method' | 'get' | 'set' | 'constructor';
  /** An async function that is left as it is. */
  readonly opaque: boolean;
  steps: boolean;
}

export type CallKind =
  /** An operation of the seam: a step. */
  | { readonly type: 'seam'; readonly name: string }
  /** The same, of the language's `Atomics`. */
  | { readonly type: 'atomics'; readonly name: string }
  /** `step` or `choose` of a scenario's model. */
  | { readonly type: 'model'; readonly name: string }
  | { readonly type: 'call'; readonly key: string }
  | { readonly type: 'callback' }
  /** A method of an array, which calls a function that is written here. */
  | { readonly type: 'array'; readonly name: string };

export function matches(path: string, files: readonly string[]): boolean {
  return files.some((file) => path.endsWith(file));
}
export function textOf(source: Source, node: Node): string {
  return source.code.slice(node.start, node.end);
}

/** Key of a member or function by name. */
function memberKey(source: Source, property: Node): string {
  return property.type === 'PrivateIdentifier' ? `p:${source.path}#${property.name}` : `m:${property.name}`;
}

/** What kind of call this is, as far as steps are concerned. */
export function classifyCall(source: Source, call: Node): CallKind | undefined {
  const callee = call.callee as Node;
  if (callee.type === 'Identifier') {
    const name = callee.name as string;
    return CALLBACK_NAMES.has(name) ? { type: 'callback' } : { type: 'call', key: `f:${name}` };
  }
  if (callee.type !== 'MemberExpression' || callee.computed) return undefined;
  const property = callee.property as Node;
  const name = property.name as string;
  const receiver = callee.object as Node;
  if (property.type === 'Identifier') {
    const last = receiver.type === 'MemberExpression' ? (receiver.property as Node).name : receiver.name;
    if (last === 'ops') return { type: 'seam', name };
    if (receiver.type === 'Identifier' && last === 'Atomics') return { type: 'atomics', name };
    if (receiver.type === 'Identifier' && last === 'model' && MODEL_STEPS.has(name))
      return { type: 'model', name };
    if (ARRAY_METHODS.has(name) && (call.arguments as Node[]).some(isFunction))
      return { type: 'array', name };
    if (STEPLESS_RECEIVERS.test(textOf(source, receiver)) && name !== 'run') return undefined;
    if (CALLBACK_NAMES.has(name)) return { type: 'callback' };
  } else if (CALLBACK_NAMES.has(`#${name}`)) return { type: 'callback' };
  return { type: 'call', key: memberKey(source, property) };
}

/** The exemption that names this expression. */
export function exemptionOf(source: Source, node: Node, parent: Node | undefined): Exemption | undefined {
  if (node.type !== 'MemberExpression' && node.type !== 'AssignmentExpression') return undefined;
  // an assignment is exempt when what it assigns to is
  const whole = textOf(source, node);
  const text = node.type === 'AssignmentExpression' ? textOf(source, node.left as Node) : whole;
  const returned = parent?.type === 'ReturnStatement' ? `return ${text}` : text;
  return EXEMPTIONS.find(
    (e) => source.path.endsWith(e.file) && (e.text === text || e.text === whole || e.text === returned),
  );
}

/** The graph's functions and which of them have steps. */
export class Colors {
  readonly functions: FunctionInfo[] = [];
  readonly byNode = new Map<Node, FunctionInfo>();
  readonly #byKey = new Map<string, FunctionInfo[]>();
  readonly #getters = new Map<string, FunctionInfo[]>();

  constructor(sources: readonly Source[]) {
    for (const source of sources) this.#collect(source);
    // until nothing changes: whatever calls something that has steps has steps
    for (let changed = true; changed;) {
      changed = false;
      for (const f of this.functions) {
        if (f.steps || f.opaque || f.kind === 'constructor' || matches(f.source.path, STEPLESS_FILES))
          continue;
        if (this.#makesSteps(f)) changed = f.steps = true;
      }
    }
  }

  /** Whether a call of `key` may be one of a function with steps. */
  mayStep(key: string): boolean {
    return this.#byKey.get(key)?.some((f) => f.steps) ?? false;
  }
  /** Whether nothing of that name is defined in the sources, nor in the language. */
  isUnknown(key: string): boolean {
    const name = key.slice(2);
    return !this.#byKey.has(key) && !BUILTIN_NAMES.has(name) && !(name in globalThis);
  }
  /** Whether every function of that key has steps. */
  mustStep(key: string): boolean {
    return this.#byKey.get(key)?.every((f) => f.steps) ?? false;
  }
  /** Whether reading this property may call a getter with steps. */
  getterSteps(source: Source, member: Node): boolean {
    if (member.computed) return false;
    const key = memberKey(source, member.property as Node);
    if (!(this.#getters.get(key)?.some((f) => f.steps) ?? false)) return false;
    return !STRUCT_RECEIVERS.test(textOf(source, member.object as Node));
  }
  /** Whether a call, as written, may have steps. */
  callSteps(source: Source, call: Node): boolean {
    const kind = classifyCall(source, call);
    if (kind === undefined) return false;
    if (kind.type === 'seam') return SEAM_STEPS.has(kind.name);
    if (kind.type === 'array') return (call.arguments as Node[]).some((a) => this.byNode.get(a)?.steps);
    return kind.type === 'call' ? this.mayStep(kind.key) : true;
  }

  #makesSteps(f: FunctionInfo): boolean {
    const { source } = f;
    let found = false;
    const look = (node: Node, parent: Node | undefined): void => {
      if (found) return;
      if (node.type === 'CallExpression' && this.callSteps(source, node)) found = true;
      else if (node.type === 'MemberExpression' && this.getterSteps(source, node)) {
        const target = parent?.type === 'AssignmentExpression' && parent.left === node;
        const called = parent?.type === 'CallExpression' && parent.callee === node;
        if (!target && !called) found = true;
      }
      if (exemptionOf(source, node, parent)?.mode === 'step') found = true;
      if (found) return;
      for (const child of childrenOf(node)) if (!isFunction(child)) look(child, node);
    };
    for (const param of f.node.params as Node[]) look(param, undefined);
    look(f.node.body as Node, undefined);
    return found;
  }

  #collect(source: Source): void {
    walk(source.ast, (node, parents) => {
      if (!isFunction(node)) return;
      const parent = parents.at(-1);
      const info = describe(source, node, parent);
      this.functions.push(info);
      this.byNode.set(node, info);
      const map = info.kind === 'get' ? this.#getters : this.#byKey;
      if (info.key === '' || info.kind === 'constructor' || info.kind === 'set') return;
      const list = map.get(info.key);
      if (list === undefined) map.set(info.key, [info]);
      else list.push(info);
    });
  }
}

function describe(source: Source, node: Node, parent: Node | undefined): FunctionInfo {
  let key = '';
  let name = '';
  let kind: FunctionInfo['kind'] = 'function';
  switch (parent?.type) {
    case 'MethodDefinition':
      kind = parent.kind as FunctionInfo['kind'];
      key = parent.computed ? '' : memberKey(source, parent.key as Node);
      name = textOf(source, parent.key as Node);
      break;
    case 'PropertyDefinition':
    case 'Property':
      if (parent.computed) break;
      key = memberKey(source, parent.key as Node);
      name = textOf(source, parent.key as Node);
      if (parent.kind === 'get') kind = 'get';
      else if (parent.kind === 'set') kind = 'set';
      break;
    case 'VariableDeclarator':
      name = textOf(source, parent.id as Node);
      key = `f:${name}`;
      break;
  }
  if (node.id !== null && node.id !== undefined) {
    name = (node.id as Node).name as string;
    key = `f:${name}`;
  }
  const opaque = node.async === true && !matches(source.path, AWAIT_FREE_FILES);
  return { node, source, key, name, kind, opaque, steps: false };
}
