/**
 * `npm run bench -- paper [--quick] [--row ID]... [--corpora DIR] [--cells DIR]`: the tables of the FlexOlmo paper at our
 * scale, on real text. Every training and every score is a cell on disk, so an interrupted run resumes, and a row
 * chosen with --row computes only the cells that it needs.
 */
import { createHash } from 'node:crypto'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { InputError } from '../../src/lib/errors.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import type { Bench } from '../bench/benchmark.ts'
import { runAudit } from './audit.ts'
import { Cells } from './cells.ts'
import { DenseRows } from './dense-rows.ts'
import { embedderVersion } from './embedder.ts'
import { type Bits, Experiment, inTurn, MIXED, macro } from './experiment.ts'
import { type RowResult, tableLines } from './results.ts'
import { GATE, Rows } from './rows.ts'
import { FULL, QUICK, type Settings } from './settings.ts'
import { type RowSpec, rowSpecs } from './table.ts'
import { loadText } from './text.ts'

/** Further values of `--row` besides the rows of the table: the extraction audit, and the similarity of router rows. */
const AUDIT = 'audit'
const ROW_COSINES = 'row-cosines'

/** Default folder of corpora and cells; ignored by git. */
const WORK = '.bench'

export async function benchPaper(say: (line: string) => void, options: readonly string[]): Promise<Bench> {
  const values = optionsOf(options)
  const settings = values.quick ? QUICK : FULL
  const digest = createHash('sha256')
    .update(JSON.stringify(shapingCells(settings)))
    .digest('hex')
    .slice(0, 8)
  const dir = resolve(values.cells, `${values.quick ? 'quick' : 'full'}-${digest}`)
  say(`cells in ${dir}; you can stop at any time, and the same command resumes`)
  const abort = new AbortController()
  process.once('SIGINT', () =>
    abort.abort(new InputError('usage', 'interrupted; the same command resumes from here')),
  )
  const cells = await Cells.open(dir, say)
  const text = await loadText(values.corpora, settings, cells)
  const engine = onnxEngine()
  const experiment = await Experiment.begin({ engine, settings, cells, text, say, signal: abort.signal })
  const embedder = await embedderVersion()
  const rows = new Rows(experiment, embedder !== undefined)
  const dense = new DenseRows(experiment)
  const specs = rowSpecs(rows, experiment, settings)
  const known = [...specs.map(({ id }) => id), AUDIT, ROW_COSINES]
  const unknown = values.row?.find((id) => !known.includes(id))
  if (unknown !== undefined)
    throw new InputError('usage', `--row ${unknown}: expected one of ${known.join(', ')}`)
  const chosen = values.row === undefined ? specs : specs.filter(({ id }) => values.row?.includes(id))
  const bySeed = new Map<string, Record<string, Bits>>(chosen.map(({ id }) => [id, {}]))
  const make = async (spec: RowSpec, seed: number): Promise<void> => {
    const bits = experiment.bits(await spec.run(seed))
    ;(bySeed.get(spec.id) as Record<string, Bits>)[String(seed)] = bits
    say(
      `${spec.label}, seed ${seed}: macro ${macro(bits).toFixed(3)}, mixed ${bits[MIXED]?.toFixed(3) ?? 'not scored'}`,
    )
  }
  for (const seed of settings.seeds) {
    for (const spec of chosen) if (spec.seeds === 'all') await make(spec, seed)
  }
  for (const spec of chosen) if (spec.seeds === 'first') await make(spec, settings.seeds[0] as number)
  const results = chosen.map(
    ({ id, label, group, compute }): RowResult => ({
      id,
      label,
      group,
      compute,
      bySeed: bySeed.get(id) as RowResult['bySeed'],
    }),
  )
  const seed = settings.seeds[0] as number
  const isMade = (id: string): boolean => bySeed.has(id)
  const isAsked = (id: string): boolean =>
    values.row === undefined ? !values.quick : values.row.includes(id)
  const extra = {
    ...(isMade('gate') ? { routing: await rows.routing(seed, GATE) } : {}),
    ...(isMade('btm')
      ? { temperatures: await inTurn(settings.seeds, async (each) => (await dense.btm(each)).temperature) }
      : {}),
    ...(isAsked(AUDIT) ? { audit: await runAudit(experiment, rows) } : {}),
    ...(isAsked(ROW_COSINES) ? { rowCosines: await rows.rowCosines(seed) } : {}),
  }
  await experiment.scorer.dispose()
  return {
    json: {
      settings: { ...settings, rows: settings.rows.source },
      sets: experiment.sets,
      rows: results,
      ...extra,
      peers: { embedder: embedder ?? 'not installed' },
    },
    lines: tableLines(results, experiment.sets),
  }
}

/** Settings that change the content of cells. Seeds, ranks and shares are part of the cells' names instead. */
function shapingCells({ seeds, ranks, replayShares, rows, ...rest }: Settings): Partial<Settings> {
  return rest
}

function optionsOf(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        quick: { type: 'boolean', default: false },
        row: { type: 'string', multiple: true },
        corpora: { type: 'string', default: join(WORK, 'corpora') },
        cells: { type: 'string', default: join(WORK, 'paper') },
      },
    }).values
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause)
    throw new InputError(
      'usage',
      `${said}; options: --quick, --row ID, --corpora DIR, --cells DIR`,
      {},
      cause,
    )
  }
}
