/** A hash table of visited states: 64-bit keys, 16 bits of value, and the place on the path of those that are on it. */
export class Visited {
  size = 0;
  #capacity = 1 << 14;
  #keys = new Int32Array(2 << 14);
  /** Value + 1; 0: empty. */
  #values = new Int32Array(1 << 14);
  #depths = new Int32Array(1 << 14);

  /** Slot of the key, made with value -1 if new. Slots stay valid until the next `slot` call. */
  slot(a: number, b: number): number {
    if (this.size * 2 > this.#capacity) this.#grow();
    const slot = this.#find(a, b);
    if (this.#values[slot] === 0 && (this.#keys[2 * slot] !== a || this.#keys[2 * slot + 1] !== b)) {
      this.#keys[2 * slot] = a;
      this.#keys[2 * slot + 1] = b;
    }
    return slot;
  }
  /** -1 when the state is new. */
  value(slot: number): number {
    return this.#values[slot] - 1;
  }
  setValue(slot: number, value: number): void {
    if (this.#values[slot] === 0) this.size++;
    this.#values[slot] = value + 1;
  }
  /** Place on the path + 1; 0 when not on it. */
  depth(slot: number): number {
    return this.#depths[slot];
  }
  setDepth(a: number, b: number, depth: number): void {
    this.#depths[this.#find(a, b)] = depth;
  }

  #find(a: number, b: number): number {
    const mask = this.#capacity - 1;
    let slot = (a ^ Math.imul(b, 0x9e3779b1)) & mask;
    while (this.#values[slot] !== 0 && (this.#keys[2 * slot] !== a || this.#keys[2 * slot + 1] !== b)) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }
  #grow(): void {
    const [keys, values, depths] = [this.#keys, this.#values, this.#depths];
    const old = this.#capacity;
    this.#capacity = old * 2;
    this.#keys = new Int32Array(4 * old);
    this.#values = new Int32Array(2 * old);
    this.#depths = new Int32Array(2 * old);
    for (let i = 0; i < old; i++) {
      if (values[i] === 0) continue;
      const slot = this.#find(keys[2 * i], keys[2 * i + 1]);
      this.#keys[2 * slot] = keys[2 * i];
      this.#keys[2 * slot + 1] = keys[2 * i + 1];
      this.#values[slot] = values[i];
      this.#depths[slot] = depths[i];
    }
  }
}
