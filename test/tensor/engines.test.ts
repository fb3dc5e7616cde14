import { join } from 'node:path'
import util from 'node:util'
import { add, getBackend, matMul, mul, reshape, scalar, type Tensor } from '@tensorflow/tfjs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findEngines, reportLines } from '../../src/cli/engine-report.ts'
import { startNode } from '../../src/cli/running-node.ts'
import { InputError } from '../../src/lib/errors.ts'
import { createConsortium, initHome } from '../../src/node/found.ts'
import type { TensorFunction } from '../../src/tensor/engine.ts'
import { measureGflops } from '../../src/tensor/measure.ts'
import { parseGpus } from '../../src/tensor/nvidia.ts'
import { cudaFailure } from '../../src/tensor/onnx-cuda.ts'
import { selectEngine } from '../../src/tensor/select-engine.ts'
import { absent, onnx, oracle, present } from '../support/engines.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'
import { now } from '../support/network.ts'

afterAll(cleanUp)

async function refusal(promise: Promise<unknown>): Promise<InputError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(InputError)
  return error as InputError
}

describe('selectEngine', () => {
  it.each([
    [{ name: 'gpu' }, '--engine: expected onnx, tensorflow or cpu, got "gpu"'],
    [{ device: 'tpu' }, '--device: expected cpu or cuda, got "tpu"'],
    [{ name: 'cpu', device: 'cuda' }, '--device cuda: engine cpu cannot use a GPU'],
  ])('refuses %j', async (choice, words) => {
    const error = await refusal(selectEngine(choice))
    expect(error.code).toBe('usage')
    expect(error.message).toContain(words)
  })

  it.skipIf(absent.length === 0)(
    'explains in one sentence why an engine is missing, with the next command',
    () => {
      for (const { name, reason } of absent) {
        expect(reason).toMatch(new RegExp(`^engine ${name.split(' ')[0]}[^\\n]+$`))
        expect(reason).toMatch(/run ".+", or use --engine onnx --device cpu$/)
      }
    },
  )

  it('refuses a graph that would silently fall back to the CPU', () => {
    const unplaced = new Error(
      'This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been explicitly disabled by the user.',
    )
    const failure = cudaFailure(unplaced)
    expect(failure.code).toBe('engine-missing')
    expect(failure.message).toContain('lacks an operator of this graph')
    expect(cudaFailure(new Error('libcudnn.so.9: cannot open\nmore')).message).toMatch(
      /^[^\n]*libcudnn[^\n]*$/,
    )
  })

  it('restores the functions that tfjs-node needs and Node 23 removed', async () => {
    await selectEngine({ name: 'tensorflow' }).catch(() => undefined)
    const isNullOrUndefined: unknown = Reflect.get(util, 'isNullOrUndefined')
    expect(isNullOrUndefined).toBeTypeOf('function')
    const holds = isNullOrUndefined as (value: unknown) => boolean
    expect([holds(null), holds(undefined), holds(0), holds('')]).toEqual([true, true, false, false])
  })
})

describe.each(present)('inputs of a function on $label', ({ engine }) => {
  it('are read at every run, constant inputs of any shape included', async () => {
    const compiled = await engine.compile(
      ({ x, w, flat }) => ({
        y: add(mul(x as Tensor, w as Tensor), reshape(flat as Tensor, [2])),
      }),
      {
        inputs: {
          x: { shape: ['N', 2] },
          w: { shape: [2], constant: true },
          flat: { shape: [1, 2], constant: true },
        },
      },
    )
    const x = Float32Array.of(1, 2, 3, 4)
    const shared = Float32Array.of(10, 100)
    const other = Float32Array.of(1, 1)
    const run = async (w: Float32Array): Promise<number[]> =>
      Array.from((await compiled.run({ x, w, flat: shared }, {}, { N: 2 }))['y'] as Float32Array)
    expect(await run(shared)).toEqual([20, 300, 40, 500])
    x[0] = 5
    expect(await run(shared)).toEqual([60, 300, 40, 500])
    expect(await run(other)).toEqual([15, 102, 13, 104])
    expect(await run(shared)).toEqual([60, 300, 40, 500])
    await compiled.dispose()
  })
})

it('engines of one process compile and run at the same time', async () => {
  const fn: TensorFunction = ({ a }) => ({ y: add(matMul(a as never, a as never) as Tensor, scalar(1)) })
  const inputs = { a: { shape: [2, 2] } }
  const a = Float32Array.of(1, 2, 3, 4)
  const before = getBackend()
  const results = [onnx, oracle, onnx, oracle, onnx].map(async (engine) => {
    const compiled = await engine.compile(fn, { inputs })
    const [one, two] = await Promise.all([compiled.run({ a }), compiled.run({ a })])
    await compiled.dispose()
    return [one['y'], two['y']].map((y) => Array.from(y as Float32Array))
  })
  for (const found of await Promise.all(results)) {
    expect(found).toEqual([
      [8, 11, 16, 23],
      [8, 11, 16, 23],
    ])
  }
  expect(getBackend()).toBe(before)
})

describe('flexmesh doctor', () => {
  it('lists every engine with its speed or with the next command', async () => {
    const report = await findEngines(1, new AbortController().signal, () => undefined)
    const lines = reportLines(report)
    const { engines } = report
    expect(engines.map(({ name, device }) => `${name} ${device}`)).toEqual(
      expect.arrayContaining(['onnx cpu', 'onnx cuda', 'tensorflow cuda', 'cpu cpu']),
    )
    const here = new Set(present.map(({ engine }) => `${engine.name} ${engine.device}`))
    for (const { name, device, present: found, gflops, reason, next } of engines) {
      expect([name, device, found]).toEqual([name, device, here.has(`${name} ${device}`)])
      if (found) expect(gflops).toBeGreaterThan(0)
      else {
        expect(lines).toContain(`${name} on ${device} is absent:`)
        expect(lines).toContain(`  ${reason}`)
        if (next !== undefined) expect(lines).toContain(`  ${next}`)
      }
    }
    expect(Math.max(...lines.slice(0, lines.indexOf('', 5)).map((line) => line.length))).toBeLessThan(80)
  })

  it('reads the list of GPUs of the NVIDIA driver', () => {
    expect(parseGpus('NVIDIA H100 80GB HBM3, 81559, 550.54.15\n\nTesla T4, 15360, 550.54.15\n')).toEqual([
      { name: 'NVIDIA H100 80GB HBM3', memoryMiB: 81559, driver: '550.54.15' },
      { name: 'Tesla T4', memoryMiB: 15360, driver: '550.54.15' },
    ])
    expect(parseGpus('No devices were found\n')).toEqual([])
    expect(parseGpus('GPU, [N/A], 1\n')).toEqual([])
  })

  it('measures at least one product, even without time', async () => {
    expect(await measureGflops(oracle, 0)).toBeGreaterThan(0)
  })
})

describe('serving over HTTP', () => {
  let home: string
  beforeAll(async () => {
    home = join(await folder(), 'home')
    const settings = { institution: 'A', listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false }
    await initHome(home, settings, { inTheClear: true })
    await createConsortium({ home, now }, { modelDir: SMALL_MODEL, name: 'Test' })
  })

  it('gives the same answer on every engine', async () => {
    const answers: string[] = []
    for (const { engine } of present) {
      const choice = { name: engine.name, device: engine.device, threads: 1 }
      const { api, apiKey, stop } = await startNode({
        home,
        port: 0,
        engine: choice,
        onEvent: () => undefined,
      })
      const response = await fetch(`http://127.0.0.1:${api.port}/v1/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'flexmesh', prompt: 'The protein', max_tokens: 6, temperature: 0 }),
      })
      answers.push(((await response.json()) as { choices: { text: string }[] }).choices[0]?.text ?? '')
      await stop()
    }
    expect(answers[0]?.length).toBeGreaterThan(5)
    expect(new Set(answers).size).toBe(1)
  })
})
