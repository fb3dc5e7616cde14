/**
 * Reads the JSON lines of `npm run bench -- NAME --json` that a folder keeps in results/, and writes pictures of them
 * to plots/ of the same folder. Does not know what is plotted.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'

/** Members that every benchmark's JSON line has. */
export interface Measured {
  readonly machine: string
  readonly commit: string
}

const { document } = parseHTML('<!doctype html><html><body></body></html>')

/** The last line of `results/NAME.json` in `folder`; undefined if the benchmark has no results there. */
export async function resultsOf<T extends Measured>(folder: URL, name: string): Promise<T | undefined> {
  const text = await readFile(new URL(`results/${name}.json`, folder), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : (JSON.parse(text.trim().split('\n').at(-1) as string) as T)
}

/** Writes `plots/NAME.svg` in `folder`, with the machine and commit of the results below the plot. */
export async function writePicture(
  folder: URL,
  name: string,
  options: Plot.PlotOptions,
  { machine, commit }: Measured,
): Promise<void> {
  const svg = Plot.plot({
    document,
    width: 640,
    height: 320,
    marginBottom: 64,
    marginTop: 36,
    marginLeft: 48,
    insetTop: 16,
    style: { background: 'white', color: 'black' },
    ...options,
    marks: [
      ...(options.marks ?? []),
      Plot.text([`${machine}, commit ${commit}`], {
        frameAnchor: 'bottom-right',
        facet: 'super',
        dy: 55,
        fontSize: 9,
        fill: 'gray',
      }),
    ],
  })
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  const file = new URL(`plots/${name}.svg`, folder)
  await mkdir(new URL('./', file), { recursive: true })
  await writeFile(file, `${svg.outerHTML}\n`)
  console.log(relative('.', fileURLToPath(file)))
}
