/**
 * Attacks on audit bundles, counted: edits of bits and records, truncations and forks, each tried on the verifier in
 * TypeScript and, if there is a Python, on scripts/verify-bundle.py. Changes come from seeds, so every run tries the same.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { FlexMeshError } from '../../src/lib/errors.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { verifyBundle } from '../../src/transparency/verify-bundle.ts'
import {
  type Audited,
  auditedConsortium,
  cut,
  forked,
  type Pick,
  withBit,
  withoutTail,
  withRecord,
} from '../../test/support/audited.ts'

export interface Counts {
  readonly edits: number
  readonly truncations: number
  readonly forks: number
}

export interface Attacked extends Counts {
  readonly found: number
  readonly foundTruncations: number
  readonly foundForks: number
}

/** One attack: the bundle that the verifiers get. */
type Attack = (audited: Audited, pick: Pick) => Uint8Array | Promise<Uint8Array>

/** Half of the edits and truncations were sealed again by the exporter, as a dishonest one would. */
function attacks({ edits, truncations, forks }: Counts): [kind: keyof Counts, attack: Attack][] {
  const alternately = (
    count: number,
    kind: keyof Counts,
    ...ways: readonly Attack[]
  ): [keyof Counts, Attack][] =>
    Array.from({ length: count }, (_, i) => [kind, ways[i % ways.length] as Attack])
  return [
    ...alternately(edits, 'edits', withBit, withRecord),
    ...alternately(truncations, 'truncations', cut, withoutTail),
    ...alternately(forks, 'forks', forked),
  ]
}

/** Whether a verifier refuses a bundle. */
export type Refuses = (bundle: Uint8Array) => boolean | Promise<boolean>

/** @param onMissed called with the seed of an attack that was not found */
export async function attackBundles(
  counts: Counts,
  refuses: Refuses,
  onMissed: (kind: keyof Counts, seed: number) => void,
): Promise<Attacked> {
  const audited = await auditedConsortium()
  if (await refuses(audited.bytes)) throw new Error('the bundle is refused although nobody has changed it')
  const found = { edits: 0, truncations: 0, forks: 0 }
  for (const [seed, [kind, attack]] of attacks(counts).entries()) {
    const random = mulberry32(seed)
    const bundle = await attack(audited, (bound) => Math.floor(random() * bound))
    if (await refuses(bundle)) found[kind]++
    else onMissed(kind, seed)
  }
  return {
    ...counts,
    found: found.edits,
    foundTruncations: found.truncations,
    foundForks: found.forks,
  }
}

/** The verifier of the program. */
export function refusesHere(bundle: Uint8Array): boolean {
  try {
    verifyBundle(bundle)
    return false
  } catch (error) {
    if (error instanceof FlexMeshError) return true
    throw error
  }
}

/** Reads bundles from its standard input, each after its length, and prints 1 for each that it refuses, otherwise 0. */
const DRIVER = `
import importlib.util, struct, sys
spec = importlib.util.spec_from_file_location("verifier", sys.argv[1])
verifier = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verifier)
for head in iter(lambda: sys.stdin.buffer.read(4), b""):
    try:
        verifier.verify(sys.stdin.buffer.read(struct.unpack(">I", head)[0]))
        print(0, flush=True)
    except verifier.ERRORS:
        print(1, flush=True)
`

/** The verifier in Python, in one process for all bundles. */
export async function withPython<T>(python: string, use: (refuses: Refuses) => Promise<T>): Promise<T> {
  const script = fileURLToPath(new URL('../verify-bundle.py', import.meta.url))
  const child = spawn(python, ['-c', DRIVER, script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  try {
    return await use(async (bundle) => {
      const head = Buffer.alloc(4)
      head.writeUInt32BE(bundle.length)
      child.stdin.write(Buffer.concat([head, bundle]))
      const { value, done } = await lines.next()
      if (done === true) throw new Error('the verifier in Python has ended')
      return value === '1'
    })
  } finally {
    child.stdin.end()
    await ended
  }
}
