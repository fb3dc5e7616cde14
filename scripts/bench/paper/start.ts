import { resolve } from 'node:path'
import { onnxEngine } from '../../../src/tensor/onnx-engine.ts'
import { Cells } from './cells.ts'
import { FULL, QUICK } from './settings.ts'
import { loadText } from './text.ts'
import { trainPublic } from './trainings.ts'

const settings = process.argv[2] === 'full' ? FULL : QUICK
const say = (l: string) => console.log(l)
const cells = await Cells.open(resolve(process.argv[3] as string), say)
const text = await loadText('/work/shared/data/suite', settings, cells)
for (const d of text.domains)
  console.log(d, text.train(d).length, text.test(d).windows.length, text.test(d).tokens, text.test(d).bytes)
console.log('mixed', text.mixed.windows.length, text.mixed.bytes)
await trainPublic({ engine: onnxEngine(), settings, cells, text, say, signal: new AbortController().signal })
