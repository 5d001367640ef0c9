// An error shown to the user: what is wrong, and how to fix it.

export class Problem extends Error {
  constructor(what, todo = '') {
    super(what);
    this.todo = todo;
  }
}
