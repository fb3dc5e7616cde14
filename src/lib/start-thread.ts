/** Starts a worker thread from a file of this program, compiled or as source. Knows nothing about its messages. */
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { Worker, type WorkerOptions } from 'node:worker_threads'

/**
 * Path of a thread's entry beside the module that starts it.
 * @param module `import.meta.url` of that module
 * @param name file name without its ending: `.js`, or `.ts` when the source itself runs
 */
export function threadEntry(module: string, name: string): URL {
  return new URL(`./${name}${module.endsWith('.ts') ? '.ts' : '.js'}`, module)
}

/** Node cannot load TypeScript in a thread by itself; tsx, which runs the source in development, is loaded first. */
export function startThread(entry: URL, options: Omit<WorkerOptions, 'eval'>): Worker {
  if (!entry.pathname.endsWith('.ts')) return new Worker(entry, options)
  // By path: the export for `require`, which this resolves to, is not the one that a dynamic import gets.
  const tsx = new URL(
    'dist/esm/api/index.mjs',
    pathToFileURL(createRequire(import.meta.url).resolve('tsx/package.json')),
  ).href
  const bootstrap = `
    import(${JSON.stringify(tsx)}).then(({ register }) => {
      register()
      return import(${JSON.stringify(entry.href)})
    })`
  return new Worker(bootstrap, { ...options, eval: true })
}
