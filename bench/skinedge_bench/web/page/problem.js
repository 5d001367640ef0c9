// What a person reads when something fails: what is wrong, and what to do about it.

export class Problem extends Error {
  constructor(what, todo = '') {
    super(what);
    this.todo = todo;
  }
}
