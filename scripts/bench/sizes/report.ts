/** The findings of the benchmark of sizes as text for people. Measures nothing. */
import type { ModelFindings, Serving } from './findings.ts'

export interface SizesReport {
  readonly models: Readonly<Record<string, ModelFindings>>
  readonly int4BitsPerByteLoss?: number
  readonly int8BitsPerByteLoss?: number
  readonly readGBPerSecond: number
  readonly notMeasured: readonly string[]
}

export function reportLines(report: SizesReport): string[] {
  return [
    `this machine reads ${report.readGBPerSecond} GB/s`,
    ...Object.entries(report.models).flatMap(([name, findings]) =>
      linesOf(findings).map((line) => `${name}: ${line}`),
    ),
    ...lossLine('8', report.int8BitsPerByteLoss),
    ...lossLine('4', report.int4BitsPerByteLoss),
    ...report.notMeasured.map((reason) => `not measured: ${reason}`),
  ]
}

function linesOf(found: ModelFindings): string[] {
  const { trainRank64: train } = found
  return [
    ...memoryLine('create', found.createMB, found.createSeconds),
    ...(train === undefined
      ? []
      : [
          `train --rank 64: ${train.peakMB} MB, ${train.tokensPerSecond ?? 'unknown'} tokens/s, ${train.torchEager ?? 'unknown'} times PyTorch`,
        ]),
    ...memoryLine('publish', found.publishMB, found.publishSeconds),
    ...memoryLine('judge', found.judgeMB, found.judgeSeconds),
    ...memoryLine('export', found.exportMB, found.exportSeconds),
    ...memoryLine('import', found.importMB, found.importSeconds),
    ...memoryLine('export of a pair', found.exportPairMB, undefined),
    ...Object.entries(found.serve ?? {}).map(
      ([format, serving]) => `serve ${format}: ${servingWords(serving)}`,
    ),
  ]
}

function memoryLine(row: string, megabytes: number | undefined, seconds: number | undefined): string[] {
  if (megabytes === undefined) return []
  return [`${row}: ${megabytes} MB${seconds === undefined ? '' : `, ${seconds} s`}`]
}

function servingWords(serving: Serving): string {
  const { llamacpp, transformers, prefill } = serving
  const ratio = (peer: string, decode?: number, read?: number): string =>
    decode === undefined ? '' : `; ${decode} times ${peer} in decoding, ${read} in reading prompts`
  return [
    `${serving.peakMB} MB for ${serving.weightsMB} MB of weights, first answer after ${serving.startSeconds} s, at the second start after ${serving.secondStartSeconds} s`,
    `, ${serving.decodeMs} ms a token (${serving.bandwidthShare} of the read bandwidth), prompts at ${prefill?.tokensPerSecond} tokens/s`,
    ratio('llama.cpp', llamacpp, prefill?.llamacpp),
    ratio('transformers', transformers, prefill?.transformers),
  ].join('')
}

function lossLine(bits: string, loss: number | undefined): string[] {
  return loss === undefined ? [] : [`${bits}-bit weights cost ${(100 * loss).toFixed(3)} % of bits per byte`]
}
