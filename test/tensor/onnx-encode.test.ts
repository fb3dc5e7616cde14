import { open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as ort from 'onnxruntime-node'
import { afterAll, describe, expect, it } from 'vitest'
import { GraphBuilder } from '../../src/tensor/graph-builder.ts'
import { type ByteSource, encodeModelWithData } from '../../src/tensor/onnx-encode.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

const source = (length: number): ByteSource => ({
  length,
  pieces: () => {
    throw new Error('the bytes are not read while the model is encoded')
  },
})

describe('a model with its tensors in a separate file', () => {
  it('finds tensors beyond 4 GiB', async () => {
    const dir = await folder()
    const [rows, width] = [1_100_000, 1024]
    const b = new GraphBuilder<ByteSource>()
    b.inputs.push({ name: 'row', type: 'int64', shape: [1] })
    b.initializers.push({
      name: 'table',
      type: 'float32',
      shape: [rows, width],
      bytes: source(4 * rows * width),
    })
    b.initializers.push({ name: 'added', type: 'float32', shape: [width], bytes: source(4 * width) })
    const [found] = b.node('Gather', ['table', 'row']) as [string]
    b.nodes.push({ op: 'Add', inputs: [found, 'added'], outputs: ['sum'] })
    b.outputs.push({ name: 'sum', type: 'float32', shape: [1, width] })
    const { model, data, dataBytes } = encodeModelWithData(b.graph(), 'data')
    expect(dataBytes).toBeGreaterThan(2 ** 32)
    expect(data.reduce((sum, { length }) => sum + length, 0)).toBe(dataBytes)
    await writeFile(join(dir, 'model.onnx'), model)
    // A sparse file: only the last row of the table and the tensor behind it take space on the disk.
    const file = await open(join(dir, 'data'), 'w')
    const row = new Uint8Array(Float32Array.from({ length: width }, (_, i) => i).buffer)
    const added = new Uint8Array(new Float32Array(width).fill(0.5).buffer)
    await file.write(row, 0, row.length, 4 * (rows - 1) * width)
    await file.write(added, 0, added.length, dataBytes - added.length)
    await file.close()
    const session = await ort.InferenceSession.create(join(dir, 'model.onnx'), { intraOpNumThreads: 1 })
    const feeds = { row: new ort.Tensor('int64', [BigInt(rows - 1)], [1]) }
    const { sum } = await session.run(feeds)
    expect((sum as ort.Tensor).data).toEqual(Float32Array.from({ length: width }, (_, i) => i + 0.5))
    await session.release()
    await rm(join(dir, 'data'))
  })
})
