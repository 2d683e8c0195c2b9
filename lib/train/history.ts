/** A list of float32 numbers that grows in place. */
export class History {
  #values = new Float32Array(1024);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  append(values: ArrayLike<number>): void {
    const length = this.#length + values.length;
    if (length > this.#values.length) {
      const larger = new Float32Array(Math.max(length, 2 * this.#values.length));
      larger.set(this.#values.subarray(0, this.#length));
      this.#values = larger;
    }
    this.#values.set(values, this.#length);
    this.#length = length;
  }

  replace(values: ArrayLike<number>): void {
    this.#length = 0;
    this.append(values);
  }

  /** The mean of the numbers from this place on; NaN when there are none. */
  mean(from: number): number {
    let sum = 0;
    for (let i = from; i < this.#length; i++) sum += this.#values[i]!;
    return sum / (this.#length - from);
  }

  /** A copy of the numbers. */
  toArray(): Float32Array {
    return this.#values.slice(0, this.#length);
  }
}
