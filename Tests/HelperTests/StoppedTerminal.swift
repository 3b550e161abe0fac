import Foundation

/// A terminal that shows nothing any more (Ctrl-S): a pipe that is full.
final class StoppedTerminal: Sendable {
    let writer: OpenFile
    private let reader: OpenFile

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw SystemFailure("pipe") }
        (reader, writer) = (OpenFile(adopting: ends[0]), OpenFile(adopting: ends[1]))
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var space = [UInt8](repeating: 0x0A, count: 4096)
        let flags = fcntl(ends[1], F_GETFL)
        _ = fcntl(ends[1], F_SETFL, flags | O_NONBLOCK)
        while write(ends[1], &space, space.count) > 0 {}
        _ = fcntl(ends[1], F_SETFL, flags)
    }

    /// Ctrl-Q.
    func goOn() {
        var space = [UInt8](repeating: 0, count: 1 << 20)
        _ = read(reader.descriptor, &space, space.count)
    }
}
