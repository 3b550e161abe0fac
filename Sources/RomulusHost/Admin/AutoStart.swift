import Glibc

/// Guests that Xen's init script, xendomains, starts when a host boots.
///
/// After a power cut the old primary would start such a guest anew, while its replica runs.
package enum AutoStart {
    package static let directory = "/etc/xen/auto"

    /// - Returns: the file there that is this guest's configuration, or nil.
    package static func file(of guest: String, directory: String = directory) -> String? {
        guard let entries = opendir(directory) else { return nil }
        defer { closedir(entries) }
        while let entry = readdir(entries) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard !name.hasPrefix(".") else { continue }
            let path = "\(directory)/\(name)"
            if name == guest || nameOfGuest(in: path) == guest { return path }
        }
        return nil
    }

    private static func nameOfGuest(in path: String) -> String? {
        guard let file = try? ConfigurationFile.read(path: path) else { return nil }
        return try? file.string("name")
    }
}
