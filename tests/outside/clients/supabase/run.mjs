// Runs one scenario: node run.mjs <file>.<scenario> '<json>'. It says nothing unless something is wrong.
const [file, scenario] = process.argv[2].split(".");
const scenarios = await import(`./${file}.mjs`);
await scenarios[scenario]();
