import Glibc

/// What libxl and its helper restore from.
struct Feed {
    enum Progress {
        case nothingToHandOn
        case blocked
        case moved(hasFreedBuffer: Bool)
        case broken
    }

    /// -1 when it is closed.
    private(set) var descriptor: Int32
    private(set) var isBroken = false

    /// - Parameter descriptor: becomes this one's to close.
    init(_ descriptor: Int32) { self.descriptor = descriptor }

    func becomeNonBlocking() { _ = DescriptorIO.setNonBlocking(descriptor) }

    mutating func handOn(from epochs: EpochAssembly) -> Progress {
        guard let waiting = epochs.waiting else { return .nothingToHandOn }
        switch DescriptorIO.write(descriptor, waiting) {
        case .bytes(let count):
            return .moved(hasFreedBuffer: epochs.didHandOn(count))
        case .wouldBlock:
            return .blocked
        case .endOfFile, .failed:
            isBroken = true
            return .broken
        }
    }

    mutating func close() {
        Glibc.close(descriptor)
        descriptor = -1
    }
}
