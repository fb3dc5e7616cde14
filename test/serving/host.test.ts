import { describe, expect, it } from 'vitest'
import { isLoopbackHost } from '../../src/serving/host.ts'

describe('a Host header of the server', () => {
  it.each([
    ['127.0.0.1:8080', 8080],
    ['localhost:8080', 8080],
    ['LocalHost:8080', 8080],
    ['localhost.:8080', 8080],
    ['[::1]:8080', 8080],
    ['[0:0:0:0:0:0:0:1]:8080', 8080],
    ['[::0001]:8080', 8080],
    ['127.1:8080', 8080],
    ['localhost:08080', 8080],
    ['localhost', 80],
    ['127.0.0.1', 80],
    ['LOCALHOST.', 80],
    ['localhost:80', 80],
    ['localhost:', 80],
    ['[::1]', 80],
    ['localhost', 443],
    ['127.0.0.1:443', 443],
  ])('may be %s on port %i', (header, port) => {
    expect(isLoopbackHost(header, port)).toBe(true)
  })
})

describe('a Host header of another server', () => {
  it.each([
    ['localhost', 8080],
    ['localhost:80', 8080],
    ['localhost:443', 80],
    ['localhost:8081', 8080],
    ['evil.example:8080', 8080],
    ['localhost.evil.example:8080', 8080],
    ['evil-localhost:8080', 8080],
    ['localhost..:8080', 8080],
    ['127.0.0.2:8080', 8080],
    ['0.0.0.0:8080', 8080],
    ['[::]:8080', 8080],
    ['[::ffff:127.0.0.1]:8080', 8080],
    ['user@localhost:8080', 8080],
    ['localhost:8080@evil.example', 8080],
    ['localhost:8080/', 8080],
    ['localhost:8080, evil.example', 8080],
    ['localhost:8080#', 8080],
    ['localhost\\:8080', 8080],
    ['loc\u{430}lhost:8080', 8080],
    ['localhost:808O', 8080],
    ['localhost:-8080', 8080],
    ['localhost:8080:8080', 8080],
    [' localhost:8080', 8080],
    ['[::1', 8080],
    ['.', 80],
    ['', 80],
    [undefined, 80],
  ])('is %s on port %i', (header, port) => {
    expect(isLoopbackHost(header, port)).toBe(false)
  })
})
