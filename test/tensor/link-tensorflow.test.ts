import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { linkTensorflow } from '../../src/tensor/link-tensorflow.ts'
import { findWheel } from '../../src/tensor/tensorflow-wheel.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

describe('the TensorFlow wheel of a Python', () => {
  /** A site-packages folder as pip leaves it, with empty files in place of libraries. */
  async function site(distribution: string, files: readonly string[]): Promise<string> {
    const root = join(await folder(), 'site-packages')
    await mkdir(join(root, `${distribution}.dist-info`), { recursive: true })
    await mkdir(join(root, 'tensorflow'))
    for (const file of files) {
      await mkdir(join(root, file, '..'), { recursive: true })
      await writeFile(join(root, file), '')
    }
    return join(root, 'tensorflow')
  }
  const WHOLE = [
    'tensorflow/libtensorflow_cc.so.2',
    'tensorflow/libtensorflow_framework.so.2',
    'tensorflow/include/tensorflow/c/c_api.h',
  ]

  it('is found with the CUDA libraries beside it', async () => {
    const libraries = [
      'cublas/lib/libcublas.so.12',
      'cuda_runtime/lib/libcudart.so.12',
      'cudnn/lib/libcudnn.so.9',
    ]
    const others = ['cudnn/lib/libcudnn_ops.so.9', 'cublas/lib/libnvblas.so.12', 'cublas/include/cublas.h']
    const found = await site('tensorflow-2.21.0', [
      ...WHOLE,
      ...[...libraries, ...others].map((path) => `nvidia/${path}`),
    ])
    const wheel = await findWheel(found)
    expect(wheel.version).toBe('2.21.0')
    expect(wheel.cuda).toEqual(libraries.map((path) => join(found, '..', 'nvidia', path)))
    expect((await findWheel(await site('tensorflow_cpu-2.16.1', WHOLE))).cuda).toEqual([])
  })

  it.each([
    ['too old', 'tensorflow-2.9.1', WHOLE, 'TensorFlow 2.9.1 in .* is older than 2.15'],
    ['without the library', 'tensorflow-2.21.0', WHOLE.slice(1), 'lacks libtensorflow_cc.so.2'],
    ['not from pip', 'numpy-2.0.0', WHOLE, 'not a TensorFlow that pip installed'],
  ])('%s is refused', async (_, distribution, files, words) => {
    await expect(findWheel(await site(distribution, files))).rejects.toThrow(new RegExp(words))
  })

  it('is refused if a linker cannot take its path, or if Python is missing', async () => {
    const found = await site('tensorflow-2.21.0', WHOLE)
    const odd = join(await folder(), 'my files')
    await mkdir(odd)
    await symlink(found, join(odd, 'link'))
    expect((await findWheel(join(odd, 'link'))).folder).toBe(found)
    await expect(findWheel(odd)).rejects.toThrow('a linker cannot take this path')
    await expect(findWheel(join(odd, 'python'))).rejects.toThrow('not found')
  })
})

describe('linking TensorFlow', () => {
  const ignore = (): void => undefined

  it('is refused, with the next command, if Python has no TensorFlow', async () => {
    const python = join(await folder(), 'python')
    await writeFile(python, '#!/bin/sh\necho\n', { mode: 0o755 })
    const { signal } = new AbortController()
    await expect(linkTensorflow(python, ignore, signal)).rejects.toMatchObject({
      code: 'engine-missing',
      message: expect.stringContaining(`has no TensorFlow; run ${python} -m pip install tensorflow-cpu`),
    })
  })

  it('stops when it is aborted', async () => {
    const aborted = AbortSignal.abort()
    await expect(linkTensorflow('python3', ignore, aborted)).rejects.toBe(aborted.reason)
  })
})
