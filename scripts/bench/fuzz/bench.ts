/**
 * `npm run bench -- fuzz [SECONDS]`: gives every decoder of the protocols changed copies of the inputs that it accepts, for
 * SECONDS each, and counts what it does with them. Signed inputs must all be refused; every refusal must be one of our
 * errors; and memory must not grow. The changes come from seeds. Not guided by coverage.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { FlexMeshError, InputError } from '../../../src/lib/errors.ts'
import { mutate } from '../../../test/support/packages.ts'
import { SUITES } from '../../../test/vectors/suites.ts'
import type { Vector, VectorSuite } from '../../../test/vectors/vector.ts'
import type { Bench } from '../benchmark.ts'
import { ROOT } from '../node-process.ts'

const DEFAULT_SECONDS = 5
/** Changed copies of one input before the next input of the decoder. */
const IN_A_ROW = 200
const MIB = 2 ** 20
/** Decoders of the expert package that verify a signature; elsewhere these are the inputs with an envelope. */
const SIGNED = ['open-manifest', 'open-receipt']

/** The inputs of one decoder. */
interface Target {
  readonly name: string
  readonly isSigned: boolean
  readonly suite: VectorSuite
  readonly inputs: Vector['input'][]
}

export interface Fuzzed {
  readonly decoder: string
  readonly isSigned: boolean
  readonly mutants: number
  readonly accepted: number
  /** Mutants at which something else than one of our errors was thrown, with the first of these errors. */
  readonly untyped: number
  readonly firstUntyped?: string
}

export async function benchFuzz(say: (line: string) => void, options: readonly string[]): Promise<Bench> {
  const seconds = Number(options[0] ?? DEFAULT_SECONDS)
  if (!(seconds > 0) || options.length > 1) {
    throw new InputError('usage', `fuzz: expected the seconds for each decoder, got "${options.join(' ')}"`)
  }
  const targets = await readTargets()
  const before = process.memoryUsage.rss()
  let most = before
  const decoders: Fuzzed[] = []
  for (const target of targets) {
    const fuzzed = fuzz(target, 1000 * seconds)
    if (fuzzed === undefined) continue
    most = Math.max(most, process.memoryUsage.rss())
    decoders.push(fuzzed)
    say(lineOf(fuzzed))
  }
  const sum = (of: (one: Fuzzed) => number): number => decoders.reduce((total, one) => total + of(one), 0)
  const mutants = sum((one) => one.mutants)
  const untyped = sum((one) => one.untyped)
  const forged = sum(({ isSigned, accepted }) => (isSigned ? accepted : 0))
  const growthMiB = Math.round((most - before) / MIB)
  if (untyped + forged > 0) process.exitCode = 1
  return {
    json: { decoders, mutants, untyped, forged, growthMiB },
    lines: [
      ...decoders.map(lineOf),
      `${mutants} mutants at ${decoders.length} decoders: ${untyped} errors that are not ours, ${forged} changed signed inputs accepted, +${growthMiB} MiB`,
    ],
  }
}

/** The accepted vectors of all protocols, by decoder. */
async function readTargets(): Promise<Target[]> {
  const targets = new Map<string, Target>()
  for (const [protocol, suite] of Object.entries(SUITES)) {
    const folder = join(ROOT, 'protocols', protocol, 'vectors')
    for (const file of (await readdir(folder)).sort()) {
      const { expect, input } = JSON.parse(await readFile(join(folder, file), 'utf8')) as Vector
      if (expect !== 'accept') continue
      const decoder = String(input['decoder'] ?? input['message'] ?? protocol)
      const name = `${protocol} ${decoder}`
      const isSigned = 'envelope' in input || SIGNED.includes(decoder)
      const target = targets.get(name) ?? { name, isSigned, suite, inputs: [] }
      target.inputs.push(input)
      targets.set(name, target)
    }
  }
  return [...targets.values()]
}

/** @returns undefined if the decoder has no bytes that can be changed. */
function fuzz({ name, isSigned, suite, inputs }: Target, ms: number): Fuzzed | undefined {
  const valid = inputs.flatMap((input) => {
    let placed: Uint8Array | undefined
    suite.runVector(input, (bytes) => {
      placed = bytes
      return bytes
    })
    return placed === undefined || placed.length === 0 ? [] : [{ input, bytes: placed.slice() }]
  })
  if (valid.length === 0) return undefined
  const counted = { mutants: 0, accepted: 0, untyped: 0 }
  let firstUntyped: string | undefined
  const end = performance.now() + ms
  for (let seed = 1; performance.now() < end; seed++) {
    for (const { input, bytes } of valid) {
      for (const mutant of mutate(bytes, IN_A_ROW, seed)) {
        if (Buffer.compare(mutant, bytes) === 0) continue
        counted.mutants++
        try {
          suite.runVector(input, () => mutant)
          counted.accepted++
        } catch (error) {
          if (error instanceof FlexMeshError) continue
          counted.untyped++
          firstUntyped ??= `${String(error)} at ${Buffer.from(mutant).toString('base64')}`
        }
      }
    }
  }
  return {
    decoder: name,
    isSigned,
    ...counted,
    ...(firstUntyped === undefined ? {} : { firstUntyped }),
  }
}

function lineOf({ decoder, isSigned, mutants, accepted, untyped, firstUntyped }: Fuzzed): string {
  const kind = isSigned ? 'signed' : 'unsigned'
  const first = firstUntyped === undefined ? '' : `, first ${firstUntyped.slice(0, 500)}`
  return `${decoder} (${kind}): ${mutants} mutants, ${accepted} accepted, ${untyped} errors that are not ours${first}`
}
