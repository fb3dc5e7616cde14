/**
 * Measures prefill and decode times against transformers and llama.cpp on models S, M and L, and how 8-bit weights,
 * concurrent requests and the number of experts change ours. Prompt and completion have 128 tokens, every server has
 * two threads, and decoding is greedy, except where the cost of sampling is measured. FLEXMESH_BENCH_MODELS=S,M runs only the models named.
 */
import type { Bench } from '../benchmark.ts'
import { rounded } from '../machine.ts'
import { readGBPerSecond } from '../peak/peak.ts'
import type { Size } from '../reference-configs.ts'
import { benchModel, type ModelFindings } from './bench-model.ts'
import { measureExpertsCurve } from './experts-curve.ts'
import { measureInt8Loss } from './int8-quality.ts'
import { llamaCppVersion } from './llama-cpp-peer.ts'
import { THREADS } from './our-server.ts'
import { measureSampling } from './sampling.ts'

const NOT_INSTALLED = 'not installed'
const SIZES: readonly Size[] = ['S', 'M', 'L']

export async function benchInference(say: (line: string) => void): Promise<Bench> {
  const wanted = process.env['FLEXMESH_BENCH_MODELS']?.split(',') ?? SIZES
  const sizes = SIZES.filter((size) => wanted.includes(size))
  const python = process.env['FLEXMESH_TORCH_PYTHON']
  const llamaCpp = await llamaCppVersion()
  let peak = await readGBPerSecond(THREADS)
  const found = new Map<Size, ModelFindings>()
  for (const size of sizes) {
    found.set(size, await benchModel(size, { python, llamaCpp: llamaCpp !== undefined }, say))
  }
  const sampling = await measureSampling(say)
  const int8Loss = await measureInt8Loss(say)
  const curve = sizes.includes('M') ? await measureExpertsCurve(say) : undefined
  // Measured twice, and the better value counts, since a virtual machine shares its memory with neighbours.
  peak = Math.max(peak, await readGBPerSecond(THREADS))
  say(`this machine reads ${peak.toFixed(1)} GB/s`)
  const pick = <T>(of: (findings: ModelFindings) => T | undefined): Record<string, T> =>
    Object.fromEntries([...found].flatMap(([size, f]) => (of(f) === undefined ? [] : [[size, of(f) as T]])))
  const transformers = [...found.values()].find((f) => f.transformers !== undefined)?.transformers
  return {
    json: {
      ratios: {
        decode: pick((f) => f.ratios.decode),
        prefill: pick((f) => f.ratios.prefill),
        int8Decode: pick((f) => f.ratios.int8Decode),
        concurrent16: pick((f) => f.ratios.concurrent16),
        concurrent16Decode: pick((f) => f.ratios.concurrent16Decode),
      },
      bandwidthShare: pick((f) => rounded(f.readGBPerSecond / peak)),
      int8BitsPerByteLoss: int8Loss,
      sampling,
      ...(curve === undefined ? {} : { expertsCurve: curve.milliseconds, expertsCurveGrowth: curve.growth }),
      milliseconds: pick((f) => f.milliseconds),
      readGBPerSecond: rounded(peak),
      peers: { transformers: transformers ?? NOT_INSTALLED, llamacpp: llamaCpp ?? NOT_INSTALLED },
      notMeasured: notMeasured(python, llamaCpp),
    },
    lines: [
      `this machine reads ${peak.toFixed(1)} GB/s with ${THREADS} threads`,
      ...[...found.values()].flatMap((f) => f.lines),
      `sampling for 16 requests with a vocabulary of 100,352: ${sampling.extraMs.sampled} ms a token more than greedy, ${sampling.extraMs.nucleus} with top_p 0.95`,
      `8-bit weights cost ${(100 * int8Loss).toFixed(3)} % of bits per byte`,
      ...Object.entries(curve?.milliseconds ?? {}).map(([E, ms]) => `M with ${E} experts: ${ms} ms a token`),
      ...notMeasured(python, llamaCpp).map((line) => `not measured: ${line}`),
    ],
  }
}

function notMeasured(python: string | undefined, llamaCpp: string | undefined): string[] {
  const missing: string[] = []
  if (python === undefined) missing.push('transformers: set FLEXMESH_TORCH_PYTHON to a Python with it')
  if (llamaCpp === undefined) missing.push('llamacpp: run npm ci --prefix scripts/bench/peers')
  return missing
}
