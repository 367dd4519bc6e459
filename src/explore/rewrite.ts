/**
 * Turns shipped modules into ones that a scheduler can run: functions with steps become generators, their calls
 * `yield*`, operations of the seam `yield`; plain accesses by index and assignments of fields go through the
 * runtime (`$T`, see thread.ts), which records them. Nothing else changes, and every line stays where it was.
 *
 * The runtime also keeps a hash of what each thread knows (thread.ts): functions and loops tell it when
 * something is forgotten, so that two ways to the same state are the same state.
 */
import { childrenOf, isFunction, lineOf, type Node, type Source, walk, walkOwn } from './ast.ts';
import { assignedNames, loopVariables } from './names.ts';
import { classifyCall, type Colors, exemptionOf, textOf } from './color.ts';
import { BULK_METHODS, BUILTIN_NAMES, CALLBACK_TAKERS, SEAM_STEPS, THREAD_VARIABLES } from './config.ts';

/** A place in a source: what the tables name. */
export interface Site {
  readonly path: string;
  readonly line: number;
  readonly text: string;
}

/** A module as the body of a function `($T, $import, $exports)`. */
export interface RewrittenModule {
  readonly path: string;
  readonly code: string;
  /** Modules it imports, as written. */
  readonly imports: readonly string[];
}

export class RewriteError extends Error {
  override readonly name = 'RewriteError';
  readonly code = 'not-rewritable';
}

interface Context {
  /** `steps`: a generator. `sync`: runs before the exploration only. `plain`: has no steps. */
  readonly mode: 'steps' | 'sync' | 'plain' | 'opaque';
  /** Whether the function tells the runtime what it forgets. */
  readonly hashed: boolean;
  /** In a constructor: fields of `this` are being made. */
  readonly construction: boolean;
  /** Variables that the rewriting needs in this function. */
  readonly temps: string[];
  readonly assigned: ReadonlySet<string>;
}

const CALL_TEMP = '$c';

export class Rewriter {
  readonly #source: Source;
  readonly #colors: Colors;
  readonly #sites: Site[];
  readonly #imports: string[] = [];
  readonly #exports: string[] = [];
  readonly #substitutes = new Map<Node, string>();
  #context: Context = {
    mode: 'sync',
    hashed: false,
    construction: true,
    temps: [],
    assigned: new Set(),
  };
  #temp = 0;
  #ids = 0;
  #parents: Node[] = [];

  /** `sites` is appended to; its indices are the site numbers in the code. */
  constructor(source: Source, colors: Colors, sites: Site[]) {
    this.#source = source;
    this.#colors = colors;
    this.#sites = sites;
  }

  rewrite(): RewrittenModule {
    const body = this.#render(this.#source.ast);
    const temps = this.#context.temps;
    const head = `'use strict';${temps.length > 0 ? `let ${temps.join(',')};` : ''}`;
    const tail = this.#exports.map((e) => `\n${e}`).join('');
    return { path: this.#source.path, code: head + body + tail, imports: this.#imports };
  }

  /**
   * A variable that outlives a call of the function that assigns it would be state that nobody records: such a function
   * may run in the set-up only.
   */
  #captureCheck(node: Node): string {
    const { assigned, declared } = assignedNames(node);
    const captured = [...assigned].filter((name) => !declared.has(name) && !THREAD_VARIABLES.has(name));
    if (captured.length === 0) return '';
    const where = `${this.#source.path}:${lineOf(this.#source, node.start)}`;
    return `$T.setupOnly(${JSON.stringify(`${where} assigns ${captured.join(', ')} of an enclosing scope`)});`;
  }

  // --- helpers ---

  #site(node: Node): number {
    const text = textOf(this.#source, node).replace(/\s+/g, ' ');
    return (
      this.#sites.push({
        path: this.#source.path,
        line: lineOf(this.#source, node.start),
        text: text.slice(0, 100),
      }) - 1
    );
  }
  #newTemp(): string {
    const name = `$t${this.#temp++}`;
    this.#context.temps.push(name);
    return name;
  }
  #needCallTemp(): string {
    if (!this.#context.temps.includes(CALL_TEMP)) this.#context.temps.push(CALL_TEMP);
    return CALL_TEMP;
  }
  get #parent(): Node | undefined {
    return this.#parents.at(-1);
  }

  /** Copies the text between the children and renders these. */
  #copy(node: Node): string {
    const { code } = this.#source;
    let out = '';
    let at = node.start;
    for (const child of childrenOf(node)) {
      out += code.slice(at, child.start) + this.#render(child);
      at = child.end;
    }
    return out + code.slice(at, node.end);
  }

  /** Renders `child` as a child of the node that is being rendered. */
  #render(node: Node): string {
    const substitute = this.#substitutes.get(node);
    if (substitute !== undefined) return substitute;
    const exemption =
      this.#context.mode === 'opaque' ? undefined : exemptionOf(this.#source, node, this.#parent);
    if (exemption !== undefined) return this.#exempt(node, exemption.mode);
    return this.#renderPlain(node);
  }

  #renderPlain(node: Node): string {
    const special = this.#special(node);
    if (special !== undefined) return special;
    this.#parents.push(node);
    const out = this.#copy(node);
    this.#parents.pop();
    return out;
  }
  #child(parent: Node, node: Node): string {
    this.#parents.push(parent);
    const out = this.#render(node);
    this.#parents.pop();
    return out;
  }

  #exempt(node: Node, mode: 'step' | 'quiet'): string {
    const value = this.#newTemp();
    const inner = this.#renderPlain(node);
    const fence =
      mode === 'step' && this.#context.mode === 'steps' ? `yield $T.racy(${this.#site(node)}),` : '';
    return `(${fence}$T.quiet++,${value}=${inner},$T.quiet--,${value})`;
  }

  #special(node: Node): string | undefined {
    const { mode } = this.#context;
    switch (node.type) {
      case 'PrivateIdentifier':
        return `$p_${node.name as string}`;
      case 'FunctionDeclaration':
      case 'FunctionExpression':
      case 'ArrowFunctionExpression':
        return this.#function(node);
      case 'MethodDefinition':
        return this.#method(node, node.value as Node, node.static === true);
      case 'Property':
        if (isFunction(node.value as Node) && (node.method || node.kind !== 'init')) {
          return this.#method(node, node.value as Node, false);
        }
        return undefined;
      case 'ImportDeclaration':
        return this.#import(node);
      case 'ExportNamedDeclaration':
        return this.#exportNamed(node);
      case 'ExportAllDeclaration':
        this.#imports.push((node.source as Node).value as string);
        return this.#blank(
          node,
          `Object.assign($exports,$import(${JSON.stringify((node.source as Node).value)}));`,
        );
    }
    if (mode === 'opaque') return undefined;
    switch (node.type) {
      case 'CallExpression':
        return this.#call(node);
      case 'NewExpression':
        return this.#refuse(node);
      case 'ChainExpression':
        return this.#chain(node);
      case 'MemberExpression':
        return this.#member(node);
      case 'AssignmentExpression':
        return this.#assignment(node);
      case 'UpdateExpression':
        return this.#update(node);
      case 'AwaitExpression':
        return `(${this.#child(node, node.argument as Node)})`;
      case 'VariableDeclarator':
        this.#checkPattern(node);
        return undefined;
      case 'ReturnStatement':
        return this.#return(node);
      case 'WhileStatement':
      case 'DoWhileStatement':
      case 'ForStatement':
        return this.#loop(node);
      case 'PropertyDefinition':
        return this.#within({ ...this.#context, mode: 'sync', hashed: false, construction: true }, () => {
          this.#parents.push(node);
          const out = this.#copy(node);
          this.#parents.pop();
          return out;
        });
    }
    return undefined;
  }

  #within(context: Context, render: () => string): string {
    const outer = this.#context;
    this.#context = context;
    const out = render();
    this.#context = outer;
    return out;
  }

  /** Replaces a whole statement, keeping its lines. */
  #blank(node: Node, text: string): string {
    const lines = textOf(this.#source, node).split('\n').length - 1;
    return text + '\n'.repeat(lines);
  }

  // --- modules ---

  #import(node: Node): string {
    const from = (node.source as Node).value as string;
    this.#imports.push(from);
    const call = `$import(${JSON.stringify(from)})`;
    const first = (node.specifiers as Node[])[0] as Node | undefined;
    if (first?.type === 'ImportNamespaceSpecifier') {
      return this.#blank(node, `const ${(first.local as Node).name as string}=${call};`);
    }
    const names = (node.specifiers as Node[]).map((s) => {
      if (s.type !== 'ImportSpecifier')
        throw new RewriteError(`${this.#source.path}: only named imports are known`);
      const imported = (s.imported as Node).name as string;
      const local = (s.local as Node).name as string;
      return imported === local ? local : `${imported}:${local}`;
    });
    return this.#blank(node, names.length > 0 ? `const {${names.join(',')}}=${call};` : `${call};`);
  }

  #exportNamed(node: Node): string {
    const declaration = node.declaration as Node | null;
    if (declaration === null) {
      const from = node.source ? ((node.source as Node).value as string) : undefined;
      if (from !== undefined) this.#imports.push(from);
      const prefix = from === undefined ? '' : `$import(${JSON.stringify(from)}).`;
      for (const s of node.specifiers as Node[]) {
        this.#exports.push(`$exports.${(s.exported as Node).name}=${prefix}${(s.local as Node).name};`);
      }
      return this.#blank(node, '');
    }
    const names =
      declaration.type === 'VariableDeclaration'
        ? (declaration.declarations as Node[]).map((d) => (d.id as Node).name as string)
        : [(declaration.id as Node).name as string];
    for (const name of names) this.#exports.push(`$exports.${name}=${name};`);
    return this.#child(node, declaration);
  }

  // --- functions ---

  #contextOf(node: Node): Context {
    const info = this.#colors.byNode.get(node)!;
    const base = { temps: [], construction: false, assigned: assignedNames(node).assigned };
    if (info.opaque) return { ...base, mode: 'opaque', hashed: false };
    if (info.kind === 'constructor') return { ...base, mode: 'sync', hashed: false, construction: true };
    if (info.steps) return { ...base, mode: 'steps', hashed: true };
    let reads = 0;
    walkOwn(node, (n) => {
      if (n.type === 'MemberExpression' && n.computed) reads++;
      if (n.type === 'WhileStatement' || n.type === 'ForStatement' || n.type === 'DoWhileStatement')
        reads += 2;
    });
    return { ...base, mode: 'plain', hashed: reads > 1 };
  }

  /** The parameters, parenthesised, and the body in braces. */
  #paramsAndBody(node: Node): { params: string; body: string } {
    const context = this.#contextOf(node);
    return this.#withinParts(context, () => {
      this.#parents.push(node);
      // a generator's parameters cannot have steps, its body can
      let defaults = '';
      const params = (node.params as Node[])
        .map((p) => {
          if (
            context.mode !== 'steps' ||
            p.type !== 'AssignmentPattern' ||
            (p.left as Node).type !== 'Identifier'
          ) {
            return this.#render(p);
          }
          const name = (p.left as Node).name as string;
          defaults += `if(${name}===undefined)${name}=${this.#child(p, p.right as Node)};`;
          return name;
        })
        .join(',');
      const block = node.body as Node;
      let body: string;
      if (block.type === 'BlockStatement') body = this.#render(block).slice(1, -1);
      else {
        const value = this.#render(block);
        body = context.hashed ? `return $T.out($a,$b,${value});` : `return (${value});`;
      }
      this.#parents.pop();
      const check = context.mode === 'opaque' ? '' : this.#captureCheck(node);
      const temps = (context.temps.length > 0 ? `let ${context.temps.join(',')};` : '') + check;
      if (context.hashed) {
        const id = this.#site(node);
        body = `const $a=$T.a,$b=$T.b;$T.enter(${id});${temps}${defaults}${body};$T.out($a,$b,undefined);`;
      } else body = temps + body;
      return { params: `(${params})`, body: `{${body}}` };
    });
  }
  #withinParts<T>(context: Context, render: () => T): T {
    const outer = this.#context;
    this.#context = context;
    const out = render();
    this.#context = outer;
    return out;
  }

  #function(node: Node): string {
    const info = this.#colors.byNode.get(node)!;
    const { params, body } = this.#paramsAndBody(node);
    const async = info.opaque ? 'async ' : '';
    if (node.type === 'ArrowFunctionExpression') {
      // an arrow has the `this` of what is around it, which a generator can only be bound to
      if (info.steps) return `(function*${params}${body}).bind(this)`;
      return `${async}${params}=>${body}`;
    }
    const name = node.id ? ((node.id as Node).name as string) : '';
    return `${async}function${info.steps ? '*' : ''} ${name}${params}${body}`;
  }

  #method(holder: Node, node: Node, isStatic: boolean): string {
    const info = this.#colors.byNode.get(node)!;
    const key = this.#child(holder, holder.key as Node);
    const name = holder.computed ? `[${key}]` : key;
    const { params, body } = this.#paramsAndBody(node);
    const prefix = isStatic ? 'static ' : '';
    if (info.kind === 'get' || info.kind === 'set') {
      if (info.steps) return `${prefix}*$${info.kind}_${name}${params}${body}`;
      return `${prefix}${info.kind} ${name}${params}${body}`;
    }
    return `${prefix}${info.opaque ? 'async ' : ''}${info.steps ? '*' : ''}${name}${params}${body}`;
  }

  #return(node: Node): string | undefined {
    if (!this.#context.hashed) return undefined;
    const value = node.argument === null ? 'undefined' : this.#child(node, node.argument as Node);
    return `return $T.out($a,$b,${value});`;
  }

  // --- calls ---

  /** A value that may be a generator, run as part of this function. */
  #run(call: string, certain: boolean): string {
    switch (this.#context.mode) {
      case 'steps': {
        if (certain) return `(yield* ${call})`;
        const temp = this.#needCallTemp();
        return `((${temp}=${call})?.$steps===true?yield* ${temp}:${temp})`;
      }
      case 'sync':
        return `$T.drive(${call})`;
      default:
        return call;
    }
  }

  #arguments(call: Node): string[] {
    return (call.arguments as Node[]).map((a) => this.#child(call, a));
  }

  #call(node: Node): string | undefined {
    const kind = classifyCall(this.#source, node);
    if (kind?.type !== 'array') {
      const refused = this.#refuse(node);
      if (refused !== undefined) return refused;
    }
    const callee = node.callee as Node;
    const property =
      callee.type === 'MemberExpression' && !callee.computed ? (callee.property as Node) : undefined;
    if (
      property?.type === 'Identifier' &&
      BULK_METHODS.has(property.name as string) &&
      (kind === undefined || kind.type === 'call')
    ) {
      const object = this.#child(callee, callee.object as Node);
      const rest = [JSON.stringify(property.name), String(this.#site(node)), ...this.#arguments(node)];
      const text = `$T.bulk(${[object, ...rest].join(',')})`;
      return kind !== undefined && this.#colors.mayStep(kind.key) ? this.#run(text, false) : text;
    }
    if (kind === undefined) return undefined;
    const { mode } = this.#context;
    if (kind.type === 'call' && this.#colors.isUnknown(kind.key)) {
      return `$T.value(${this.#callee(node)}(${this.#arguments(node).join(',')}),${this.#site(node)})`;
    }
    if (kind.type === 'array') {
      if (!this.#colors.callSteps(this.#source, node)) return undefined;
      const object = this.#child(node.callee as Node, (node.callee as Node).object as Node);
      return this.#run(`$T.each_${kind.name}(${[object, ...this.#arguments(node)].join(',')})`, true);
    }
    if (kind.type === 'seam' && !SEAM_STEPS.has(kind.name))
      return `$T.${kind.name}(${this.#arguments(node).join(',')})`;
    if (kind.type === 'seam' || kind.type === 'atomics' || kind.type === 'model') {
      const name = kind.type === 'atomics' ? `atomics_${kind.name}` : kind.name;
      const step = `$T.${name}(${[String(this.#site(node)), ...this.#arguments(node)].join(',')})`;
      return mode === 'steps' ? `(yield ${step})` : `$T.now1(${step})`;
    }
    if (kind.type === 'call' && !this.#colors.mayStep(kind.key)) return undefined;
    const text = `${this.#callee(node)}(${this.#arguments(node).join(',')})`;
    const certain =
      kind.type === 'call' &&
      this.#colors.mustStep(kind.key) &&
      (kind.key.startsWith('p:') || !BUILTIN_NAMES.has(kind.key.slice(2)));
    return this.#run(text, certain);
  }

  /** Code that throws when it is come to, if this call cannot be done. */
  #refuse(node: Node): string | undefined {
    const message = this.#unknownTaker(node);
    return message === undefined ? undefined : `$T.refuse(${JSON.stringify(message)})`;
  }

  /** Functions with steps are for those who know how to call them; an error message when this call is none of them. */
  #unknownTaker(node: Node): string | undefined {
    if (this.#context.mode === 'opaque') return undefined;
    const callee = node.callee as Node;
    const named = callee.type === 'MemberExpression' ? (callee.property as Node) : callee;
    const name = `${named.type === 'PrivateIdentifier' ? '#' : ''}${named.name as string}`;
    // a scenario's own functions call it `body`
    if (CALLBACK_TAKERS.has(name) || this.#source.path.includes('/explore/')) return undefined;
    for (const argument of node.arguments as Node[]) {
      let steps = false;
      walk(argument, (n) => {
        if (isFunction(n) && this.#colors.byNode.get(n)!.steps) steps = true;
        return !isFunction(n);
      });
      if (!steps) continue;
      return `${this.#source.path}:${lineOf(this.#source, node.start)}: ${name} is given a function with steps; CALLBACK_TAKERS in config.ts does not know it`;
    }
    return undefined;
  }

  /** The callee without the treatment of property reads: `a.b` has to stay `a.b` for `this`. */
  #callee(node: Node): string {
    const callee = node.callee as Node;
    if (callee.type !== 'MemberExpression') return this.#child(node, callee);
    this.#parents.push(node, callee);
    const out = this.#copy(callee);
    this.#parents.length -= 2;
    return out;
  }

  /** `a?.b.c()` becomes a test, since what follows may have steps. */
  #chain(node: Node): string | undefined {
    let optional: Node | undefined;
    for (let n = node.expression as Node; ;) {
      if (n.type === 'MemberExpression') {
        if (n.optional) optional = n.object as Node;
        n = n.object as Node;
      } else if (n.type === 'CallExpression') {
        if (n.optional) optional = n.callee as Node;
        n = n.callee as Node;
      } else break;
    }
    if (optional === undefined) return undefined;
    const temp = this.#newTemp();
    const object = this.#child(node, optional);
    this.#substitutes.set(optional, temp);
    const rest = this.#child(node, node.expression as Node);
    this.#substitutes.delete(optional);
    return `((${temp}=${object})==null?undefined:${rest})`;
  }

  // --- properties ---

  /** A getter with steps cannot be called by a pattern. */
  #checkPattern(declarator: Node): void {
    const pattern = declarator.id as Node;
    if (pattern.type !== 'ObjectPattern' || declarator.init === null) return;
    for (const p of pattern.properties as Node[]) {
      if (p.type !== 'Property' || p.computed) continue;
      const member = {
        computed: false,
        object: declarator.init as Node,
        property: p.key as Node,
      } as unknown as Node;
      if (!this.#colors.getterSteps(this.#source, member)) continue;
      throw new RewriteError(
        `${this.#source.path}:${lineOf(this.#source, p.start)}: ${textOf(this.#source, p.key as Node)} may be a getter with steps; read it as a property`,
      );
    }
  }

  #member(node: Node): string | undefined {
    const parent = this.#parent;
    const isCallee = parent?.type === 'CallExpression' && parent.callee === node;
    if (isCallee) return undefined;
    if (node.computed) {
      if ((node.object as Node).type === 'Super') return undefined;
      const object = this.#child(node, node.object as Node);
      return `$T.rd(${object},${this.#child(node, node.property as Node)},${this.#site(node)})`;
    }
    if (!this.#colors.getterSteps(this.#source, node)) return undefined;
    const temp = this.#newTemp();
    const name = (node.property as Node).name as string;
    const key = (node.property as Node).type === 'PrivateIdentifier' ? `$p_${name}` : name;
    const getter = `$get_${key}`;
    const object = this.#child(node, node.object as Node);
    const read = this.#run(`${temp}.${getter}()`, true);
    return `((${temp}=${object}).${getter}!==undefined?${read}:${temp}.${key})`;
  }

  /** An assignment to a field of an object, or to an element of an array. */
  #assignment(node: Node): string | undefined {
    const left = node.left as Node;
    if (left.type !== 'MemberExpression') return undefined;
    const operator = (node.operator as string).slice(0, -1);
    const value = (): string => this.#child(node, node.right as Node);
    return this.#store(node, left, operator, value);
  }

  #update(node: Node): string | undefined {
    const target = node.argument as Node;
    if (target.type !== 'MemberExpression') return undefined;
    const operator = (node.operator as string)[0];
    const stored = this.#store(node, target, operator, () => '1');
    if (node.prefix || this.#parent?.type === 'ExpressionStatement') return stored;
    // the value before: exact for the numbers that are counted with ++
    return `(${stored}${operator === '+' ? '-' : '+'}1)`;
  }

  #store(node: Node, left: Node, operator: string, value: () => string): string {
    const object = this.#child(left, left.object as Node);
    const property = left.property as Node;
    if (!left.computed) {
      const name = property.type === 'PrivateIdentifier' ? `$p_${property.name}` : (property.name as string);
      if (this.#context.construction && (left.object as Node).type === 'ThisExpression') {
        return `${object}.${name}${operator}=${value()}`;
      }
      if (operator === '') return `$T.put(${object},${JSON.stringify(name)},${value()})`;
      const temp = this.#newTemp();
      const put = `$T.put(${temp},${JSON.stringify(name)},`;
      if (isLogical(operator)) return `(${temp}=${object},${temp}.${name}${operator}${put}${value()}))`;
      return `(${temp}=${object},${put}${temp}.${name}${operator}(${value()})))`;
    }
    const index = this.#child(left, property);
    const site = this.#site(node);
    if (operator === '') return `$T.wr(${object},${index},${value()},${site})`;
    const [o, i] = [this.#newTemp(), this.#newTemp()];
    const read = `$T.rd(${o},${i},${site})`;
    if (isLogical(operator))
      return `(${o}=${object},${i}=${index},${read}${operator}$T.wr(${o},${i},${value()},${site}))`;
    return `(${o}=${object},${i}=${index},$T.wr(${o},${i},${read}${operator}(${value()}),${site}))`;
  }

  // --- loops ---

  /**
   * What a thread knows at the head of a loop is what it knew before the loop, and the variables that the loop
   * assigns: all else that it has seen in the loop is forgotten.
   */
  #loop(node: Node): string | undefined {
    if (!this.#context.hashed || !this.#observes(node)) return undefined;
    if (this.#parent?.type === 'LabeledStatement') return undefined;
    const { inside, outside } = loopVariables(node);
    const [a, b] = [this.#newTemp(), this.#newTemp()];
    const mark = `${a}=$T.a,${b}=$T.b`;
    const forget = (names: readonly string[]): string =>
      `$T.loop(${[a, b, this.#ids++, ...names].join(',')});`;
    const test = node.test === null ? '' : this.#child(node, node.test as Node);
    const body = this.#child(node, node.body as Node);
    const leave = test === '' ? '' : `if(!(${test}))break;`;
    const after = forget(outside);
    switch (node.type) {
      case 'WhileStatement':
        return `{${mark};for(;;){${forget(inside)}${leave}${body}}${after}}`;
      case 'DoWhileStatement':
        return `{${mark};do{${forget(inside)}${body}}while(${test});${after}}`;
      default: {
        const init = node.init as Node | null;
        let first = mark;
        if (init?.type === 'VariableDeclaration')
          first = `${this.#child(node, init).replace(/;\s*$/, '')},$m=(${mark})`;
        else if (init) first = `${this.#child(node, init)},${mark}`;
        const update = node.update === null ? '' : this.#child(node, node.update as Node);
        return `{for(${first};;${update}){${forget(inside)}${leave}${body}}${after}}`;
      }
    }
  }

  #observes(loop: Node): boolean {
    let found = false;
    walkOwn(loop, (n) => {
      if (n.type === 'CallExpression' || (n.type === 'MemberExpression' && n.computed)) found = true;
      if (n.type === 'MemberExpression' && this.#colors.getterSteps(this.#source, n)) found = true;
    });
    return found;
  }
}

function isLogical(operator: string): boolean {
  return operator === '??' || operator === '||' || operator === '&&';
}
