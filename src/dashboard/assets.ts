/**
 * The files of the dashboard, read once: the page's own modules beside this file, and the libraries of the page from
 * where the package manager has put them. Each has a path below /assets. Knows nothing about sessions.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Asset {
  readonly type: string
  readonly body: Uint8Array
  /** HTTP entity tag of the content. */
  readonly etag: string
}

export interface Assets {
  /** The page itself. */
  readonly index: Asset
  /** By path, such as `/assets/app.js`. */
  readonly files: ReadonlyMap<string, Asset>
  /** Value of the header Content-Security-Policy: only these files run, and only this node is asked. */
  readonly contentSecurityPolicy: string
}

const PAGE = fileURLToPath(new URL('./page/', import.meta.url))
const TYPES: Readonly<Record<string, string>> = {
  js: 'text/javascript; charset=utf-8',
  mjs: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  html: 'text/html; charset=utf-8',
  svg: 'image/svg+xml',
}

/** Files of packages by their path below /assets/vendor: package, and path in it. */
const VENDOR: Readonly<Record<string, readonly [package_: string, path: string]>> = {
  'preact.mjs': ['preact', 'dist/preact.mjs'],
  'preact-hooks.mjs': ['preact', 'hooks/dist/hooks.mjs'],
  'htm.mjs': ['htm', 'dist/htm.mjs'],
  'uplot.js': ['uplot', 'dist/uPlot.iife.min.js'],
  'uplot.css': ['uplot', 'dist/uPlot.min.css'],
}

export async function loadAssets(): Promise<Assets> {
  const files = new Map<string, Asset>()
  for (const name of await readdir(PAGE, { recursive: true })) {
    if (TYPES[extensionOf(name)] !== undefined && name !== 'index.html')
      files.set(`/assets/${name.replaceAll('\\', '/')}`, assetOf(name, await readFile(join(PAGE, name))))
  }
  for (const [name, [package_, path]] of Object.entries(VENDOR)) {
    files.set(`/assets/vendor/${name}`, assetOf(name, await readFile(join(packageDir(package_), path))))
  }
  const html = await readFile(join(PAGE, 'index.html'))
  return { index: assetOf('index.html', html), files, contentSecurityPolicy: policyFor(html.toString()) }
}

/** Folder of a package. Packages need not export their package.json, so it is found from the main module. */
function packageDir(name: string): string {
  const entry = createRequire(import.meta.url).resolve(name)
  const end = entry.lastIndexOf(join('node_modules', name)) + join('node_modules', name).length
  return entry.slice(0, end)
}

function assetOf(name: string, body: Uint8Array): Asset {
  const etag = `"${createHash('sha256').update(body).digest('base64url')}"`
  return { type: TYPES[extensionOf(name)] as string, body, etag }
}

function extensionOf(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1)
}

/** The import map is the only inline script, since browsers read it from nowhere else; the policy names its digest. */
function policyFor(html: string): string {
  const inline = [...html.matchAll(/<script type="importmap">([\s\S]*?)<\/script>/g)].map(
    ([, content]) =>
      `'sha256-${createHash('sha256')
        .update(content as string)
        .digest('base64')}'`,
  )
  return [
    "default-src 'none'",
    `script-src 'self' ${inline.join(' ')}`,
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
}
