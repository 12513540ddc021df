// Run by node with the npm package of the peer: measures what it is told to, when it is told to.
//
// node npm_driver.js FOLDER_OF_THE_PACKAGE, one line of JSON a message: {"prepare", "sizes"}, then {"run"} once a round.
'use strict';

const fs = require('fs');
const path = require('path');
const readline = require('readline');

const folder = path.resolve(process.argv[2]);
const { SonaEngine } = require(folder);
const BATCH_S = 3e-3;

// Reproducible normal numbers: a 32-bit xorshift and the Box-Muller transform.
function generator(seed) {
  let state = seed >>> 0 || 1;
  const uniform = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

function unit(width, normal) {
  const x = Array.from({ length: width }, normal);
  const length = Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
  return x.map((value) => value / length);
}

const now = () => Number(process.hrtime.bigint()) / 1e9;

function batched(once) {
  const timed = (size) => {
    const began = now();
    for (let i = 0; i < size; i++) once();
    return (now() - began) / size;
  };
  for (let i = 0; i < 50; i++) once(); // until it is compiled
  const size = Math.max(Math.floor(BATCH_S / Math.min(...Array.from({ length: 5 }, () => timed(1)))), 1);
  return () => timed(size);
}

function engineOf(width, more) {
  return SonaEngine.withConfig({ hiddenDim: width, microLoraRank: 2, qualityThreshold: 0.0, ...more });
}

function request(engine, x, steps, rewards) {
  const id = engine.beginTrajectory(x);
  steps.forEach((step, place) => engine.addTrajectoryStep(id, step, [], rewards[place]));
  engine.endTrajectory(id, 0.8);
}

const REWARDS = [0.9, 0.2, 0.6];

const cases = {
  forward({ width }) {
    const normal = generator(1);
    const engine = engineOf(width, {});
    for (let i = 0; i < 50; i++) {
      request(engine, unit(width, normal), REWARDS.map(() => unit(width, normal)), REWARDS);
    }
    engine.flush();
    const x = unit(width, normal);
    return batched(() => engine.applyMicroLora(x));
  },

  moved({ width, requests }) {
    return () => {
      const normal = generator(5);
      const engine = SonaEngine.withConfig({ hiddenDim: width, microLoraRank: 2 }); // its own defaults beside the rank
      const [x, target] = [unit(width, normal), unit(width, normal)];
      for (let i = 0; i < requests; i++) {
        const id = engine.beginTrajectory(x);
        engine.addTrajectoryStep(id, target, [], 1.0);
        engine.endTrajectory(id, 1.0);
      }
      engine.flush();
      const moved = engine.applyMicroLora(x).map((value, place) => value - x[place]);
      return 100 * Math.sqrt(moved.reduce((sum, value) => sum + value * value, 0));
    };
  },

  learn({ width }) {
    const normal = generator(2);
    const engine = engineOf(width, { trajectoryCapacity: 100000 });
    const pool = Array.from({ length: 512 }, () => Array.from({ length: 4 }, () => unit(width, normal)));
    let turn = 0;
    return batched(() => {
      const [x, first, second, third] = pool[turn++ % pool.length];
      const id = engine.beginTrajectory(x);
      engine.addTrajectoryStep(id, first, [], 0.9);
      engine.addTrajectoryStep(id, second, [], 0.2);
      engine.addTrajectoryStep(id, third, [], 0.6);
      engine.endTrajectory(id, 0.8);
      engine.flush();
    });
  },

  search({ patterns, width }) {
    if (patterns > 1000) return null; // its merging is quadratic in the patterns: they take too long to make
    const normal = generator(3);
    const engine = engineOf(width, { patternClusters: 100, trajectoryCapacity: 20000 });
    while (JSON.parse(engine.getStats()).patterns_stored < patterns) {
      for (let i = 0; i < 100; i++) request(engine, unit(width, normal), [], []);
      engine.forceLearn();
    }
    const queries = Array.from({ length: 64 }, () => unit(width, normal));
    let turn = 0;
    return batched(() => engine.findPatterns(queries[turn++ % 64], 5));
  },

  extract({ file, width, clusters }) {
    const bytes = fs.readFileSync(file.replace(/\.npy$/, '.bin'));
    const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    const rows = numbers.length / width;
    return () => {
      const engine = engineOf(width, { patternClusters: clusters, trajectoryCapacity: rows });
      for (let row = 0; row < rows; row++) {
        request(engine, Array.from(numbers.subarray(row * width, (row + 1) * width)), [], []);
      }
      const began = now();
      engine.forceLearn();
      return now() - began;
    };
  },

  memory({ trajectories, width }) {
    const normal = generator(4);
    const record = (engine, count) => {
      for (let i = 0; i < count; i++) {
        request(engine, unit(width, normal), REWARDS.map(() => unit(width, normal)), REWARDS);
      }
    };
    return () => {
      record(engineOf(width, { trajectoryCapacity: trajectories }), 200); // what is made once is no overhead
      global.gc();
      const before = process.memoryUsage().rss;
      const engine = engineOf(width, { trajectoryCapacity: trajectories });
      record(engine, trajectories);
      global.gc();
      const held = (process.memoryUsage().rss - before) / 1e6;
      if (JSON.parse(engine.getStats()).trajectories_buffered < trajectories) throw new Error('it dropped some');
      return held;
    };
  },
};

const prepared = [];

function answer(message) {
  if ('run' in message) return { value: prepared[message.run]() };
  const made = message.prepare in cases ? cases[message.prepare](message.sizes) : null;
  if (made === null) return { absent: true };
  prepared.push(made);
  return { prepared: prepared.length - 1 };
}

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n');

say({ version: JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8')).version });
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  try {
    say(answer(JSON.parse(line)));
  } catch (error) {
    say({ failed: `@ruvector/sona: ${error.message}` });
  }
});
