/** Which variables a function or a loop assigns. */
import { type Node, walk, walkOwn } from './ast.ts';

/** Names that the function assigns without declaring them, and the function's own names. */
export function assignedNames(node: Node): { assigned: Set<string>; declared: Set<string> } {
  const assigned = new Set<string>();
  const declared = new Set<string>();
  const declare = (pattern: Node): void => {
    walk(pattern, (n) => {
      if (n.type === 'Identifier') declared.add(n.name as string);
    });
  };
  for (const param of (node.params ?? []) as Node[]) declare(param);
  walkOwn(node, (n) => {
    if (n.type === 'VariableDeclarator') declare(n.id as Node);
    if (n.type === 'FunctionDeclaration' || n.type === 'ClassDeclaration')
      declared.add((n.id as Node).name as string);
    if (n.type === 'CatchClause' && n.param) declare(n.param as Node);
    const target =
      n.type === 'AssignmentExpression'
        ? (n.left as Node)
        : n.type === 'UpdateExpression'
          ? (n.argument as Node)
          : undefined;
    if (target?.type === 'Identifier') assigned.add(target.name as string);
    else if (target !== undefined && target.type !== 'MemberExpression') {
      walk(target, (t) => {
        if (t.type === 'Identifier') assigned.add(t.name as string);
      });
    }
  });
  return { assigned, declared };
}

/** Variables assigned in the loop that live at its head, and after it. */
export function loopVariables(loop: Node): { inside: string[]; outside: string[] } {
  const assigned = new Set<string>();
  const local = new Set<string>();
  const initial = new Set<string>();
  walk(loop, (n) => {
    const target =
      n.type === 'AssignmentExpression' ? n.left : n.type === 'UpdateExpression' ? n.argument : undefined;
    if (target === undefined || (target as Node).type === 'MemberExpression') return;
    walk(target as Node, (t) => {
      if (t.type === 'Identifier') assigned.add(t.name as string);
    });
  });
  const declare = (into: Set<string>, node: Node): void => {
    walk(node, (n) => {
      if (n.type === 'VariableDeclarator') {
        walk(n.id as Node, (t) => {
          if (t.type === 'Identifier') into.add(t.name as string);
        });
      }
    });
  };
  declare(local, loop.body as Node);
  if (loop.init) declare(initial, loop.init as Node);
  const inside = [...assigned].filter((name) => !local.has(name));
  return { inside, outside: inside.filter((name) => !initial.has(name)) };
}
